//! Debian's kernels: found by asking apt, downloaded once, unpacked into
//! `target/vm/`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::apt::{self, Apt};

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Debian 12's.
    V6_1,
    /// Debian 13's.
    V6_12,
    /// The newest that Debian has for its stable release.
    Newest,
}

/// Every module that some card of the matrix wants; the rest is not kept.
const MODULES: &[&str] = &["virtio_pci", "virtio_net", "igb", "veth"];

impl Role {
    fn folder(self) -> &'static str {
        match self {
            Role::V6_1 => "kernel-6.1",
            Role::V6_12 => "kernel-6.12",
            Role::Newest => "kernel-newest",
        }
    }

    /// The suites that may have it, and how its version begins.
    fn wanted(self) -> (&'static [&'static str], &'static str) {
        match self {
            Role::V6_1 => (&["bookworm"], "6.1."),
            Role::V6_12 => (&["trixie", "bookworm-backports"], "6.12."),
            // Mirrors may lack the alias, and one may lag behind the other.
            Role::Newest => (&["stable-backports", "trixie-backports"], ""),
        }
    }
}

/// A kernel, ready to boot.
#[derive(Debug)]
pub struct Kernel {
    /// Debian's version.
    pub version: String,
    /// The image.
    pub image: PathBuf,
    folder: PathBuf,
}

impl Kernel {
    /// The one of this role: that of an earlier run, unless `update`.
    pub fn get(role: Role, vm: &Path, update: bool) -> Result<Self> {
        let folder = vm.join(role.folder());
        if let (Ok(kernel), false) = (Kernel::there(&folder), update) {
            return Ok(kernel);
        }
        let (suites, begins) = role.wanted();
        let mut candidates = Vec::new();
        for suite in suites {
            let apt = Apt::new(&vm.join("apt").join(suite), suite)?;
            if apt.update().is_err() {
                continue;
            }
            // The newest comes first.
            let versions = apt.versions("linux-image-amd64")?;
            let found = versions.into_iter().find(|found| found.starts_with(begins));
            candidates.extend(found.map(|version| (apt, version)));
        }
        let newest = candidates
            .into_iter()
            .max_by_key(|(_, version)| numbers(version));
        let Some((apt, version)) = newest else {
            bail!(
                "no linux-image-amd64 {begins} in {}; is there a connection to a Debian mirror?",
                suites.join(", ")
            );
        };
        fetch(&apt, &version, &folder).with_context(|| format!("linux-image-amd64 {version}"))?;
        // The lists are larger than what was sought in them.
        fs::remove_dir_all(vm.join("apt"))?;
        Kernel::there(&folder)
    }

    fn there(folder: &Path) -> Result<Self> {
        // Written last: what has no version is not complete.
        let version = fs::read_to_string(folder.join("version"))?;
        Ok(Kernel {
            version,
            image: folder.join("vmlinuz"),
            folder: folder.to_owned(),
        })
    }

    /// These modules and what they depend on, in the order to load them in.
    pub fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in wanted {
            self.load_after(name, &mut order)?;
        }
        Ok(order)
    }

    fn load_after(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let path = self.folder.join("modules").join(format!("{name}.ko"));
        if order.contains(&path) {
            return Ok(());
        }
        // What is no file is part of the image; `fetch` has seen to it.
        let Ok(module) = fs::read(&path) else {
            return Ok(());
        };
        for dependence in dependences(&module)? {
            self.load_after(&dependence, order)?;
        }
        order.push(path);
        Ok(())
    }
}

/// "7.3.4-1~bpo13+1" is 7, 3, 4: enough to tell kernels apart.
fn numbers(version: &str) -> Vec<u32> {
    let upstream = version.split('-').next().unwrap_or_default();
    upstream
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect()
}

/// Downloads a kernel and keeps of it what is booted.
fn fetch(apt: &Apt, version: &str, folder: &Path) -> Result<()> {
    eprintln!("fetching Linux {version}");
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let (packages, tree) = (folder.join("packages"), folder.join("tree"));
    fs::create_dir_all(&tree)?;
    for archive in apt.download(&packages_of(apt, version)?, &packages)? {
        apt::unpack(&archive, &tree)?;
    }
    let mut files = Vec::new();
    walk(&tree, &mut files)?;
    let image = files
        .iter()
        .find(|path| name(path).starts_with("vmlinuz"))
        .context("the packages hold no vmlinuz")?;
    fs::copy(image, folder.join("vmlinuz"))?;
    let modules = Modules::of(&files)?;
    let into = folder.join("modules");
    fs::create_dir_all(&into)?;
    for wanted in MODULES {
        modules.keep(wanted, &into)?;
    }
    fs::remove_dir_all(&tree)?;
    fs::remove_dir_all(&packages)?;
    fs::write(folder.join("version"), version)?;
    Ok(())
}

/// Names of packages that a kernel is made of, up to its release.
const PARTS: [&str; 4] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
];

/// The package that depends on the newest kernel's, and so on down: newer ones
/// have image and modules in packages of their own.
fn packages_of(apt: &Apt, version: &str) -> Result<Vec<String>> {
    let mut queue = vec![format!("linux-image-amd64={version}")];
    let mut found: Vec<String> = Vec::new();
    while let Some(package) = queue.pop() {
        for name in apt.depends(&package)? {
            let rest = PARTS.iter().find_map(|start| name.strip_prefix(start));
            // "linux-image-6.12.117+deb13-amd64", and not another that only
            // depends on the newest.
            if rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
                && !found.contains(&name)
            {
                found.push(name.clone());
                queue.push(name);
            }
        }
    }
    if found.is_empty() {
        bail!("depends on no kernel");
    }
    Ok(found)
}

/// The modules of an unpacked kernel.
struct Modules {
    files: HashMap<String, PathBuf>,
    builtin: Vec<String>,
}

impl Modules {
    fn of(files: &[PathBuf]) -> Result<Self> {
        let list = files.iter().find(|path| name(path) == "modules.builtin");
        let list = list.context("the packages hold no modules.builtin")?;
        Ok(Modules {
            files: files
                .iter()
                .filter_map(|path| Some((module_name(&name(path))?, path.clone())))
                .collect(),
            builtin: fs::read_to_string(list)?
                .lines()
                .filter_map(|line| module_name(line.rsplit('/').next()?))
                .collect(),
        })
    }

    /// Copies a module, and what it depends on, unpacked.
    fn keep(&self, name: &str, into: &Path) -> Result<()> {
        let to = into.join(format!("{name}.ko"));
        if to.exists() || self.builtin.iter().any(|builtin| builtin == name) {
            return Ok(());
        }
        let from = self
            .files
            .get(name)
            .with_context(|| format!("this kernel has no module {name}"))?;
        let module = match from.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => unpacked("xz", from)?,
            Some("zst") => unpacked("zstd", from)?,
            _ => fs::read(from)?,
        };
        fs::write(&to, &module)?;
        for dependence in dependences(&module)? {
            self.keep(&dependence, into)?;
        }
        Ok(())
    }
}

fn unpacked(program: &str, file: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("{program}: cannot be started"))?;
    if !output.status.success() {
        bail!("{program} -dc {}: {}", file.display(), output.status);
    }
    Ok(output.stdout)
}

/// What a module says it depends on: `depends=a,b` in its section `.modinfo`.
/// (Debian has modules.dep made on the machine that boots.)
fn dependences(module: &[u8]) -> Result<Vec<String>> {
    const MARK: &[u8] = b"\0depends=";
    let start = module
        .windows(MARK.len())
        .position(|window| window == MARK)
        .context("a module without depends=")?
        + MARK.len();
    let text = module.get(start..).unwrap_or_default();
    let text = text.split(|octet| *octet == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(normal)
        .collect())
}

/// "igb.ko.xz" is the module igb.
fn module_name(file: &str) -> Option<String> {
    Some(normal(file.split_once(".ko")?.0))
}

/// The kernel takes - and _ for the same in a module's name.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependences_are_read_from_a_module() {
        let module = b"\x7fELF\0license=GPL\0depends=dca,i2c-algo-bit\0name=igb\0";
        assert_eq!(dependences(module).unwrap(), ["dca", "i2c_algo_bit"]);
        assert!(dependences(b"x\0depends=\0").unwrap().is_empty());
        assert!(dependences(b"nothing").is_err());
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("7.10.1-1~bpo13+1") > numbers("7.9.12-1"));
        assert_eq!(numbers("6.1.176-1"), [6, 1, 176]);
    }

    #[test]
    fn modules_are_known_by_their_files() {
        assert_eq!(
            module_name("i2c-algo-bit.ko.xz").as_deref(),
            Some("i2c_algo_bit")
        );
        assert_eq!(module_name("veth.ko").as_deref(), Some("veth"));
        assert_eq!(module_name("modules.dep"), None);
    }
}
