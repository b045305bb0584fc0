//! What a finished binary is asked before it may go to a device: does it run there, is it small
//! enough, and does it tell anything of the machine that built it?

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use object::Endianness;
use object::elf::{FileHeader64, SHF_ALLOC, SHT_NOBITS, SectionHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _};

use crate::target::{GLIBC, Target};

/// A symbol's version of glibc.
const GLIBC_PREFIX: &str = "GLIBC_";

/// Bytes of a path that are shown: enough to see whose it is.
const PATH_SHOWN: usize = 200;

/// Refuses a binary that the target's devices could not run.
pub(crate) fn check_runs(bytes: &[u8], target: Target) -> anyhow::Result<(u32, u32)> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("reading it as 64-bit ELF")?;
    let machine = header.e_machine(header.endian().context("reading its byte order")?);
    ensure!(
        machine == target.machine(),
        "expected machine {:?}, found {machine:?}",
        target.machine()
    );
    let versions = glibc_versions(bytes).context("reading the versions of its symbols")?;
    let newest = versions.into_iter().max().unwrap_or_default();
    check_floor(newest)?;
    Ok(newest)
}

/// Is the newest version that is asked for one that every device has?
fn check_floor(newest: (u32, u32)) -> anyhow::Result<()> {
    let name = |(major, minor)| format!("{GLIBC_PREFIX}{major}.{minor}");
    ensure!(newest <= GLIBC, "expected no symbol above {}, found {}", name(GLIBC), name(newest));
    Ok(())
}

/// Every version of glibc that the binary asks the loader for.
fn glibc_versions(bytes: &[u8]) -> anyhow::Result<Vec<(u32, u32)>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut found = Vec::new();
    let Some((mut files, link)) = sections.gnu_verneed(endian, bytes)? else {
        return Ok(found);
    };
    let strings = sections.strings(endian, bytes, link)?;
    while let Some((_, mut names)) = files.next()? {
        while let Some(name) = names.next()? {
            let name = String::from_utf8_lossy(name.name(endian, strings)?).into_owned();
            let Some(version) = name.strip_prefix(GLIBC_PREFIX) else { continue };
            let mut numbers = version.split('.').map(str::parse);
            let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
                // Such as GLIBC_PRIVATE: what is promised to nobody, in no version.
                anyhow::bail!("expected a version, found {name}");
            };
            found.push((major, minor));
        }
    }
    Ok(found)
}

/// Places of the machine that built it, as far as a binary names them.
pub(crate) fn check_tells_nothing(bytes: &[u8], places: &[String]) -> anyhow::Result<()> {
    for place in places {
        let at = bytes.windows(place.len()).position(|w| w == place.as_bytes());
        if let Some(at) = at {
            let end = bytes[at..].iter().position(|b| !b.is_ascii_graphic());
            let end = end.unwrap_or(bytes.len() - at).min(PATH_SHOWN);
            let text = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
            anyhow::bail!("expected no path of this machine in it, found {text}");
        }
    }
    Ok(())
}

/// The size without symbols and debug information, as `strip --strip-all` leaves it; computed,
/// because a host's `strip` knows its own processor only.
///
/// What is loaded lies at the beginning of a program and keeps its place. Behind it remain the
/// names of its sections and their headers.
pub(crate) fn stripped(bytes: &[u8]) -> anyhow::Result<ByteSize> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("reading it as 64-bit ELF")?;
    let endian = header.endian().context("reading its byte order")?;
    let sections = header.sections(endian, bytes).context("reading its sections")?;
    let mut loaded_end = 0;
    // The one that is nothing, and the one with the names.
    let (mut headers, mut names) = (2, ".shstrtab".len() + 2);
    for section in sections.iter().filter(|s| s.sh_flags(endian).contains(SHF_ALLOC)) {
        headers += 1;
        names += sections.section_name(endian, section).context("reading a name")?.len() + 1;
        if section.sh_type(endian) != SHT_NOBITS {
            loaded_end = loaded_end.max(section.sh_offset(endian) + section.sh_size(endian));
        }
    }
    ensure!(headers > 2, "expected sections that are loaded, found none");
    let headers = headers * size_of::<SectionHeader64<Endianness>>();
    Ok(ByteSize(loaded_end + (names + headers) as u64))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// What `strip` leaves in beside: which compilers and linkers there were.
    const COMMENTS: u64 = 1024;

    fn own() -> Vec<u8> {
        fs::read(std::env::current_exe().expect("a test knows its binary")).expect("read")
    }

    #[test]
    fn a_stripped_size_is_what_strip_leaves_of_this_processor_s_programs() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, rest) = (folder.path().join("whole"), folder.path().join("rest"));
        fs::write(&whole, own()).expect("written");
        let done =
            Command::new("strip").arg("--strip-all").arg("-o").arg(&rest).arg(&whole).status();
        assert!(done.expect("every linker comes with strip").success());
        let (expected, found) = (fs::metadata(&rest).expect("made").len(), stripped(&own()));
        let found = found.expect("measured").as_u64();
        assert!(found.abs_diff(expected) <= COMMENTS, "expected {expected}, found {found}");
    }

    #[test]
    fn a_program_of_another_processor_is_refused() {
        let other = if cfg!(target_arch = "x86_64") { Target::Aarch64 } else { Target::X86_64 };
        let error = check_runs(&own(), other).expect_err("refused").to_string();
        assert!(error.starts_with("expected machine "), "{error}");
    }

    #[test]
    fn every_version_of_glibc_that_a_program_needs_is_found() {
        let versions = glibc_versions(&own()).expect("read");
        assert!(
            versions.iter().all(|(major, _)| *major == 2) && versions.len() > 3,
            "{versions:?}"
        );
    }

    #[test]
    fn a_symbol_that_old_devices_do_not_have_is_refused_by_name() {
        check_floor((2, 31)).expect("every device has it");
        let error = check_floor((2, 34)).expect_err("refused").to_string();
        assert_eq!(error, "expected no symbol above GLIBC_2.31, found GLIBC_2.34");
    }

    #[test]
    fn a_place_of_this_machine_is_found_and_named() {
        let places = ["/home/somebody/".to_owned()];
        check_tells_nothing(b"\0/usr/lib/x\0", &places).expect("nothing told");
        let error = check_tells_nothing(b"x\0/home/somebody/a.rs\0y", &places).expect_err("told");
        assert!(error.to_string().ends_with("found /home/somebody/a.rs"), "{error}");
    }
}
