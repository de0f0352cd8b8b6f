//! Personalities: credentials that requests can name. Nothing is denied in the simulation, as to
//! root, so a request may name one, and nothing more follows.

use std::collections::BTreeSet;

use annulus_sys::errno::Errno;

/// The registered personalities of a ring.
#[derive(Debug, Default)]
pub(super) struct People {
    ids: BTreeSet<u16>,
    /// The one that was given last.
    last: u16,
}

impl People {
    pub(super) fn knows(&self, id: u16) -> bool {
        self.ids.contains(&id)
    }

    /// Registers the caller's: the next free number, from 1 on, round and round.
    pub(super) fn register(&mut self) -> Result<u32, Errno> {
        let after = (1..=u16::MAX).filter(|&id| id > self.last);
        let mut ids = after.chain(1..=self.last);
        let id = ids.find(|id| !self.ids.contains(id)).ok_or(Errno::new(libc::EBUSY))?;
        self.ids.insert(id);
        self.last = id;
        Ok(id.into())
    }

    pub(super) fn unregister(&mut self, id: u32) -> Result<u32, Errno> {
        let id = u16::try_from(id).ok();
        match id.is_some_and(|id| self.ids.remove(&id)) {
            true => Ok(0),
            false => Err(Errno::new(libc::EINVAL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round() {
        let mut people = People { ids: [1, 65_535].into(), last: 65_534 };
        assert_eq!(people.register(), Ok(2));
        assert_eq!(people.register(), Ok(3));
        assert_eq!(people.unregister(1), Ok(0));
        assert_eq!(people.unregister(1), Err(Errno::new(libc::EINVAL)));
        assert_eq!(people.unregister(65_537), Err(Errno::new(libc::EINVAL)));
        assert_eq!(people.register(), Ok(4));
        assert!(people.knows(4) && !people.knows(1));
    }
}
