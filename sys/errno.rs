//! Error numbers of the kernel: negated in a result, positive in `errno`.
//!
//! | where | success | failure |
//! |---|---|---|
//! | a system call through libc | ≥ 0 | −1, and the number in `errno` |
//! | the `res` of a completion | ≥ 0 | the number, negated |
//!
//! Leaves to others: what a number means. That depends on the call or operation that returned it.

use core::fmt;

/// A positive error number.
///
/// It keeps any number, even one that no kernel should return.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u32);

impl Errno {
    /// The error with this positive number: `Errno::new(libc::EINTR)`.
    pub const fn new(number: i32) -> Self {
        Self(number.unsigned_abs())
    }

    /// The number that the last failed libc call on this thread left in `errno`.
    pub fn last() -> Self {
        Self::of(&std::io::Error::last_os_error())
    }

    /// The error number in `error`, or `EIO` for an error that did not come from the system.
    pub fn of(error: &std::io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Splits a result into its value and its error.
    ///
    /// # Errors
    ///
    /// When `res` is negative: its magnitude is the error number.
    #[inline]
    pub const fn split(res: i32) -> Result<u32, Self> {
        if res < 0 { Err(Self(res.unsigned_abs())) } else { Ok(res.cast_unsigned()) }
    }

    /// The number, positive.
    pub const fn raw(self) -> i32 {
        // The only magnitude that does not fit comes from `i32::MIN`, which wraps to itself.
        self.0.cast_signed()
    }

    /// Whether this is error `number`: `errno.is(libc::EINTR)`.
    pub const fn is(self, number: i32) -> bool {
        self.raw() == number
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&std::io::Error::from(*self), f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_value_or_an_error_number() {
        assert_eq!(Errno::split(0), Ok(0));
        assert_eq!(Errno::split(i32::MAX), Ok(i32::MAX.cast_unsigned()));
        assert_eq!(Errno::split(-4), Err(Errno::new(libc::EINTR)));
    }

    #[test]
    fn a_number_that_no_kernel_sends_survives() {
        assert!(format!("{:?}", Errno::split(i32::MIN)).starts_with("Err(Errno(2147483648: "));
        assert_eq!(Errno::split(i32::MIN).unwrap_err().raw(), i32::MIN);
    }

    #[test]
    fn an_errno_reads_as_the_system_describes_it() {
        assert_eq!(
            Errno::new(libc::EINTR).to_string(),
            std::io::Error::from_raw_os_error(libc::EINTR).to_string()
        );
    }
}
