//! What `quickstart` prints, which files it reads, and its errors for files that it cannot read.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::{Folder, fails, line, prints, text};

#[test]
fn quickstart_shows_its_five_parts() {
    let page = prints("quickstart", &["--stats"]);
    for part in ["1. This kernel: Linux ", "2. A file", "3. An echo", "4. Two rings", "5. What"] {
        assert_eq!(page.matches(part).count(), 1, "{part}: {page}");
    }
    assert_eq!(line(&page, "sizes"), "16 submission slots, 32 completion slots");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.rs");
    assert_eq!(line(&page, "path"), source);
    assert_eq!(line(&page, "bytes"), fs::metadata(source).unwrap().len().to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
    let echoed = "100 messages of 256 bytes there and back, every byte checked";
    assert_eq!(line(&page, "exchanged"), echoed);
    // Written, taken and posted, reaped, written again: of the four pictures, in this order.
    let words = |ring: &str| -> Vec<String> {
        page.lines().filter_map(|line| line.strip_prefix(ring)).map(str::to_owned).collect()
    };
    let taken = "   head 3   tail 3   written 3";
    let moments =
        ["   head 0   tail 0   written 3", taken, taken, "   head 3   tail 3   written 6"];
    assert_eq!(words("  submission ring"), moments);
    let reaped = "   head 3   tail 3";
    let moments = ["   head 0   tail 0", "   head 0   tail 3", reaped, reaped];
    assert_eq!(words("  completion ring"), moments);
    assert!(page.contains("enters per request"), "{page}");
    assert!(page.contains("CPU ns per operation"), "{page}");
}

#[test]
fn quickstart_reads_files_of_every_size() {
    let folder = Folder::new("sizes");
    let block = 64 << 10;
    // Each byte encodes its position, so that blocks in a wrong order are noticed.
    let bytes = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|at| (at / 251 % 256).to_le_bytes()[0] ^ (at % 253).to_le_bytes()[0])
            .collect()
    };
    // One read more than the full blocks finds the end; a part of a block takes one more.
    let sizes = [(0, 1), (1, 2), (block, 2), (3 * block, 4), (3 * block + 17, 5), (40 * block, 41)];
    for (size, reads) in sizes {
        let file = folder.file("sized", &bytes(size));
        let page = prints("quickstart", &[&file]);
        assert_eq!(line(&page, "path"), file);
        assert_eq!(line(&page, "bytes"), size.to_string());
        assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
        let counted = line(&page, "reads");
        let count: u64 = counted.split(',').next().unwrap().parse().unwrap();
        // Reads may be short; they are never fewer.
        assert!(count >= reads && count <= 2 * reads, "{size} bytes: {counted}");
    }
    let checksum = |byte| {
        let file = folder.file("one", &[byte]);
        line(&prints("quickstart", &[&file]), "checksum").to_string()
    };
    assert_ne!(checksum(1), checksum(2));
}

#[test]
fn quickstart_reads_a_long_file_in_many_reads_at_once() {
    let folder = Folder::new("long");
    let path = folder.file("sparse", b"");
    let size = (200 << 20) + 1;
    File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    let page = prints("quickstart", &[&path]);
    assert_eq!(line(&page, "bytes"), size.to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
    // 3201 reads would be as many enters if they were not in flight together.
    let (_, enters) = line(&page, "reads").rsplit_once("; ").unwrap();
    let enters: u64 = enters.split(' ').next().unwrap().parse().unwrap();
    assert!(enters < 3201, "{page}");
}

#[test]
fn quickstart_reads_a_file_that_claims_no_size() {
    let page = prints("quickstart", &["/proc/cpuinfo"]);
    assert_ne!(line(&page, "bytes"), "0");
    // Linux writes the file again for each reader, and its frequencies may change between two.
    let contents = line(&page, "contents");
    let is_known = contents.starts_with("equal to") || contents.ends_with("for each reader");
    assert!(is_known, "{page}");
    // A file that does not change.
    let page = prints("quickstart", &["/proc/version"]);
    let version = fs::read("/proc/version").unwrap();
    assert_eq!(line(&page, "bytes"), version.len().to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
}

#[test]
fn quickstart_says_why_it_cannot_read_a_file() {
    let folder = Folder::new("refused");
    let secret = folder.file("secret", b"secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let missing = folder.0.join("missing").into_os_string().into_string().unwrap();
    let cases = [
        (missing.as_str(), format!("cannot open {missing}: No such file or directory")),
        ("/proc", "/proc is a directory, not a file".into()),
        ("/dev/zero", "/dev/zero is not a regular file".into()),
        (&secret, format!("cannot open {secret}: Permission denied")),
    ];
    for (path, what) in cases {
        let output = folder.ordinary("quickstart").arg(path).output().expect("it starts");
        let stderr = fails(&output, 1);
        assert!(stderr.starts_with(&format!("quickstart: {what}")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn quickstart_serves_an_ordinary_user() {
    let folder = Folder::new("ordinary");
    let file = folder.file("file", &[7; 100_000]);
    let output = folder.ordinary("quickstart").arg(&file).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    assert_eq!(line(&page, "bytes"), "100000");
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
}
