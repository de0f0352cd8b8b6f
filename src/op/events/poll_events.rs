//! The events that a poll waits for.
//!
//! Leaves to others: the polls (`poll`), and epoll (`epoll`).

use std::fmt;
use std::ops::BitOr;

/// A set of poll events: `POLLIN` and the others. Unknown bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PollEvents(u32);

impl PollEvents {
    /// There is data to read, or the end of it.
    #[doc(alias = "POLLIN")]
    pub const IN: Self = Self(libc::EPOLLIN.cast_unsigned());
    /// There is urgent data to read.
    #[doc(alias = "POLLPRI")]
    pub const PRI: Self = Self(libc::EPOLLPRI.cast_unsigned());
    /// There is room to write.
    #[doc(alias = "POLLOUT")]
    pub const OUT: Self = Self(libc::EPOLLOUT.cast_unsigned());
    /// The file has an error. Always reported, even if not asked for.
    #[doc(alias = "POLLERR")]
    pub const ERR: Self = Self(libc::EPOLLERR.cast_unsigned());
    /// The other side has hung up. Always reported, even if not asked for.
    #[doc(alias = "POLLHUP")]
    pub const HUP: Self = Self(libc::EPOLLHUP.cast_unsigned());
    /// There is data to read; a second name for [`IN`](Self::IN), which Linux up to 5.13 reports
    /// together with it.
    #[doc(alias = "POLLRDNORM")]
    pub const RDNORM: Self = Self(libc::EPOLLRDNORM.cast_unsigned());
    /// There is room to write; a second name for [`OUT`](Self::OUT).
    #[doc(alias = "POLLWRNORM")]
    pub const WRNORM: Self = Self(libc::EPOLLWRNORM.cast_unsigned());
    /// The other side will write no more. Always reported, even if not asked for.
    #[doc(alias = "POLLRDHUP")]
    pub const RDHUP: Self = Self(libc::EPOLLRDHUP.cast_unsigned());

    /// The names, for [`Debug`](fmt::Debug).
    const NAMES: [(&str, Self); 8] = [
        ("IN", Self::IN),
        ("PRI", Self::PRI),
        ("OUT", Self::OUT),
        ("ERR", Self::ERR),
        ("HUP", Self::HUP),
        ("RDNORM", Self::RDNORM),
        ("WRNORM", Self::WRNORM),
        ("RDHUP", Self::RDHUP),
    ];

    /// The events with these bits, as in `poll(2)`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits, as in `poll(2)`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The events of both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set contains all of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set contains any of `other`.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for PollEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for PollEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = Self::NAMES.into_iter().filter(|(_, event)| self.contains(*event));
        let unnamed = here.clone().fold(self.0, |bits, (_, event)| bits & !event.0);
        let mut names: Vec<String> = here.map(|(name, _)| name.to_owned()).collect();
        if unnamed != 0 {
            names.push(format!("{unnamed:#x}"));
        }
        write!(f, "PollEvents({})", names.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_by_name_and_unknown_ones_by_number() {
        let events = PollEvents::IN | PollEvents::RDHUP | PollEvents::from_bits(0x800);
        assert_eq!(format!("{events:?}"), "PollEvents(IN | RDHUP | 0x800)");
        assert_eq!(format!("{:?}", PollEvents::default()), "PollEvents()");
    }

    #[test]
    fn a_set_tells_all_from_any() {
        let both = PollEvents::IN | PollEvents::OUT;
        assert!(both.contains(PollEvents::OUT) && !PollEvents::OUT.contains(both));
        assert!(both.intersects(PollEvents::OUT) && !both.intersects(PollEvents::PRI));
        assert!(PollEvents::default().is_empty() && !both.is_empty());
    }
}
