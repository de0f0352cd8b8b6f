//! Releases of Linux: which one a simulated kernel is like.
//!
//! | what a release lacks | is refused with |
//! |---|---|
//! | set-up flags, enter flags, register calls, operations, most of their flags (`older`) | `EINVAL` |
//! | features | not reported |
//!
//! | behaves otherwise | in |
//! |---|---|
//! | an enter that submits fails with `EBUSY` while completions overflow | up to 5.12 |
//! | a polling thread takes registered files only | up to 5.10 |
//! | `FSYNC`, `FALLOCATE`, `SHUTDOWN` and operations on paths that fail break their chain | up to 5.19 |
//! | a single-shot poll is forgotten if it is updated to what is there already | 6.0 to 6.17 |
//! | memory of the program's of more than a page is refused, since it may be scattered | up to 6.13 |
//! | a filler of a mixed queue is written over (`post`) | up to 7.2 |
//! | a query answers 40 bytes, and not how many questions there are | 6.18 |
//! | restrictions allow only what is named, also of a class in which nothing is | up to 6.19 |
//! | buffers are cloned as a whole table only | 6.12 |
//! | a resize of a mixed queue refuses to lay a wide completion across the wrap | from 7.3 |

/// A release of Linux, by its first two numbers.
///
/// # Example
///
/// ```
/// use annulus::sim::{Release, Sim};
/// use annulus::sys::flags::{Features, SetupFlags};
/// use annulus::Setup;
///
/// let old = Sim::new(1).like(Release::V5_10);
/// let ring = Setup::plain(8).kernel(old.kernel()).build_raw()?;
/// assert!(!ring.features().contains(Features::EXT_ARG)); // Linux 5.11
/// let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
/// assert!(Setup::plain(8).with(deferring).kernel(old.kernel()).build_raw().is_err());
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    major: u16,
    minor: u16,
}

impl Release {
    /// Linux 5.10, as it was released: distributions have carried features back.
    pub const V5_10: Self = Self::new(5, 10);
    /// Linux 6.1.
    pub const V6_1: Self = Self::new(6, 1);
    /// Linux 6.12.
    pub const V6_12: Self = Self::new(6, 12);
    /// Linux 6.18.
    pub const V6_18: Self = Self::new(6, 18);
    /// The newest one whose behaviour is known. A [`Sim`](super::Sim) is like it, unless it is told
    /// otherwise.
    pub const NEWEST: Self = Self::new(7, 3);

    /// Linux `major.minor`, from 5.10 on.
    ///
    /// # Panics
    ///
    /// For an older one, which is not simulated.
    pub const fn new(major: u16, minor: u16) -> Self {
        assert!(major > 5 || (major == 5 && minor >= 10), "simulated is Linux 5.10 and later");
        Self { major, minor }
    }

    /// Whether it has what came with Linux `since`, such as `"6.1"`; nothing of what nobody knows.
    pub(super) fn has(self, since: Option<&str>) -> bool {
        if self == Self::NEWEST {
            return since.is_some(); // Nothing that anybody knows is newer.
        }
        let number = |text: &str| text.parse::<u16>().ok();
        let release = since.and_then(|since| since.split_once('.'));
        let release = release.and_then(|(major, minor)| number(major).zip(number(minor)));
        release.is_some_and(|(major, minor)| self >= Self { major, minor })
    }

    /// Whether it is older than Linux `major.minor`.
    pub(super) fn is_before(self, major: u16, minor: u16) -> bool {
        self < Self { major, minor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_an_order_by_their_numbers() {
        assert!(Release::V5_10.has(Some("5.1")) && Release::V5_10.has(Some("5.10")));
        assert!(!Release::V5_10.has(Some("5.11")) && !Release::V5_10.has(None));
        assert!(Release::V6_1.has(Some("5.19")) && !Release::V6_1.has(Some("6.10")));
        assert!(Release::V6_12.is_before(6, 13) && !Release::V6_12.is_before(6, 12));
    }
}
