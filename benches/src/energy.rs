//! Energy, as the processor's own meters have it (RAPL): that of whole packages, whoever used it.
//!
//! ```text
//!   /sys/class/powercap/intel-rapl:0/energy_uj            package 0: counted
//!   /sys/class/powercap/intel-rapl:1/energy_uj            package 1: counted
//!   /sys/class/powercap/intel-rapl:0:0/energy_uj          a part of package 0: not again
//! ```
//!
//! AMD's processors have the same files. Since Linux 5.10 only root may read them, and few virtual
//! machines have them at all; then there is a reason in the place of a figure.

use std::fs;
use std::path::{Path, PathBuf};

/// The meters of this machine.
#[derive(Debug)]
pub struct Meters(Vec<Meter>);

#[derive(Debug)]
struct Meter {
    energy: PathBuf,
    /// Behind this, it begins at zero again.
    most: u64,
}

/// What the meters say at some time, in microjoules.
#[derive(Debug, Clone)]
pub struct Reading(Vec<u64>);

impl Meters {
    /// Those of this machine, or why there are none.
    pub fn here() -> Result<Self, String> {
        Self::below(Path::new("/sys/class/powercap"))
    }

    fn below(folder: &Path) -> Result<Self, String> {
        let files = fs::read_dir(folder).map_err(|error| format!("no {folder:?}: {error}"))?;
        let is_package = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'))
        };
        let mut meters = Vec::new();
        for path in files.flatten().map(|file| file.path()).filter(is_package) {
            let energy = path.join("energy_uj");
            let most = number(&path.join("max_energy_range_uj")).unwrap_or(u64::MAX);
            number(&energy)?;
            meters.push(Meter { energy, most });
        }
        if meters.is_empty() {
            return Err(format!("no intel-rapl in {folder:?}"));
        }
        Ok(Self(meters))
    }

    /// What they say now.
    pub fn read(&self) -> Option<Reading> {
        let meters = self.0.iter().map(|meter| number(&meter.energy).ok());
        meters.collect::<Option<Vec<u64>>>().map(Reading)
    }

    /// The joules from `before` to `after`. A meter may have begun again in between, once.
    pub fn joules(&self, before: &Reading, after: &Reading) -> f64 {
        let pairs = before.0.iter().zip(&after.0).zip(&self.0);
        let micro = |((before, after), meter): ((&u64, &u64), &Meter)| match after >= before {
            true => after - before,
            false => meter.most - before + after,
        };
        pairs.map(micro).sum::<u64>() as f64 / 1e6
    }
}

fn number(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"))?;
    text.trim().parse().map_err(|error| format!("{path:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages with these energies, and a part of the first, as the kernel shows them.
    fn folder(name: &str, energies: &[u64]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("annulus-{}-{name}", std::process::id()));
        let write = |zone: &str, energy: u64| {
            let zone = folder.join(zone);
            fs::create_dir_all(&zone).expect("room");
            fs::write(zone.join("energy_uj"), format!("{energy}\n")).expect("room");
            fs::write(zone.join("max_energy_range_uj"), "1000000000\n").expect("room");
        };
        energies.iter().enumerate().for_each(|(at, &uj)| write(&format!("intel-rapl:{at}"), uj));
        // Not to be counted, and as different from time to time.
        write("intel-rapl:0:0", energies.iter().sum());
        write("intel-rapl-mmio:0", energies.iter().sum());
        folder
    }

    #[test]
    fn packages_are_added_and_a_meter_that_began_again_is_no_fall() {
        let path = folder("energy", &[999_000_000, 5_000_000]);
        let meters = Meters::below(&path).expect("two packages");
        let before = meters.read().expect("they are there");
        folder("energy", &[2_000_000, 9_000_000]);
        let after = meters.read().expect("they are there");
        assert_eq!(meters.joules(&before, &after), 3.0 + 4.0);
        fs::remove_dir_all(&path).expect("ours");
        assert!(meters.read().is_none());
    }

    #[test]
    fn without_meters_there_is_a_reason() {
        let none = Meters::below(Path::new("/nowhere")).expect_err("no such folder");
        assert!(none.starts_with("no \"/nowhere\": "), "{none}");
        let path = folder("no-energy", &[]);
        let none = Meters::below(&path).expect_err("no package");
        assert!(none.starts_with("no intel-rapl in "), "{none}");
        fs::remove_dir_all(&path).expect("ours");
    }
}
