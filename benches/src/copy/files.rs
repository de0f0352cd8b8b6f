//! A folder for files to copy, and whether a copy is right.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

/// A folder that is removed in the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("annulus-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The name of the file system.
    pub fn kind(&self) -> String {
        match statfs(&self.0).map(|stat| stat.f_type) {
            Ok(0xEF53) => "ext4".to_owned(),
            Ok(0x0102_1994) => "tmpfs".to_owned(),
            Ok(0x5846_5342) => "xfs".to_owned(),
            Ok(0x9123_683E) => "btrfs".to_owned(),
            Ok(0x794C_7630) => "overlayfs".to_owned(),
            Ok(other) => format!("file system {other:#x}"),
            Err(_) => "an unknown file system".to_owned(),
        }
    }

    /// So many bytes, or fewer where source and copy would not leave half of the room free.
    pub fn fitting(&self, wanted: u64, notes: &mut Vec<String>) -> u64 {
        let free = statvfs(&self.0).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let mut bytes = wanted;
        while bytes > 1 << 20 && bytes.saturating_mul(4) > free {
            bytes /= 2;
        }
        if bytes < wanted {
            let (less, wanted) = (bytes >> 20, wanted >> 20);
            notes.push(format!("{}: {less} MiB in place of {wanted}, for room", self.kind()));
        }
        bytes
    }

    /// A file of so many bytes without a pattern, on its disk.
    pub fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let (path, mut noise, mut block) = (self.path(name), Noise(1), vec![0; 1 << 20]);
        let mut file = File::create(&path).expect("room");
        let mut left = bytes;
        while left > 0 {
            noise.fill(&mut block);
            let count = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            file.write_all(&block[..count]).expect("room");
            left -= count as u64;
        }
        file.sync_all().expect("a disk that takes it");
        path
    }

    /// A folder of so many files of `bytes` each.
    pub fn folder(&self, name: &str, files: u64, bytes: usize) -> PathBuf {
        let (path, mut noise, mut block) = (self.path(name), Noise(2), vec![0; bytes]);
        fs::create_dir(&path).expect("room");
        for number in 0..files {
            noise.fill(&mut block);
            fs::write(path.join(number.to_string()), &block).expect("room");
        }
        rustix::fs::sync();
        path
    }

    /// Removes a file, or a folder with all that is in it; or nothing, if it is not there.
    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes without a pattern (xorshift).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_ne_bytes());
        }
    }
}

/// Fails unless both files have the same bytes.
pub fn compare(one: &Path, other: &Path) {
    let mut files = [one, other].map(|path| File::open(path).expect("it is there"));
    let lengths = files.each_ref().map(|file| file.metadata().expect("a file").len());
    assert_eq!(lengths[0], lengths[1], "the copy has another length");
    let mut blocks = [vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut left = lengths[0];
    while left > 0 {
        let count = usize::try_from(left).map_or(1 << 20, |left| left.min(1 << 20));
        for (file, block) in files.iter_mut().zip(&mut blocks) {
            file.read_exact(&mut block[..count]).expect("a file as long as it says");
        }
        assert!(blocks[0][..count] == blocks[1][..count], "the copy has other bytes");
        left -= count as u64;
    }
}

/// Fails unless both folders have the same files.
pub fn compare_folders(one: &Path, other: &Path) {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let both = names(one);
    assert!(both == names(other), "the copy has other files");
    both.iter().for_each(|name| compare(&one.join(name), &other.join(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_wrong_is_found_and_nothing_stays_behind() {
        let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
        let one = scratch.file("one", (1 << 20) + 5);
        let two = scratch.file("two", (1 << 20) + 5);
        compare(&one, &two);
        let mut bytes = fs::read(&two).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&two, bytes).unwrap();
        assert!(std::panic::catch_unwind(|| compare(&one, &two)).is_err());
        let folder = scratch.0.clone();
        drop(scratch);
        assert!(!folder.exists());
    }
}
