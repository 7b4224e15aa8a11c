//! Which kernel runs.

/// Major and minor number of the running kernel; (0, 0) when it does not say.
pub(crate) fn running() -> (u32, u32) {
    // SAFETY: plain data, for which zero is a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: writes inside `names`.
    if unsafe { libc::uname(&mut names) } != 0 {
        return (0, 0);
    }
    let release: Vec<u8> = names
        .release
        .iter()
        .take_while(|&&c| c != 0)
        .map(|&c| c as u8)
        .collect();
    version(&String::from_utf8_lossy(&release)).unwrap_or((0, 0))
}

/// Major and minor number of a release as `uname -r` prints it.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("unknown"), None);
        assert!(running() > (4, 0));
    }
}
