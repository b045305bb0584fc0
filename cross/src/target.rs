//! The devices' processors, and what Rust, Debian and ELF call each.

use clap::ValueEnum;
use object::elf;

/// The oldest glibc that a device has: JetPack 5 is Ubuntu 20.04.
pub(crate) const GLIBC: (u32, u32) = (2, 31);

/// What a device computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Jetson, and every other 64-bit Arm.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// Workstations and servers.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
}

impl Target {
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// What cargo-zigbuild takes: the triple and the glibc that it links against.
    pub(crate) fn with_glibc(self) -> String {
        let (major, minor) = GLIBC;
        format!("{}.{major}.{minor}", self.triple())
    }

    /// As it stands in a package's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    /// As it stands in the header of its binaries.
    pub(crate) fn machine(self) -> elf::Machine {
        match self {
            Self::Aarch64 => elf::EM_AARCH64,
            Self::X86_64 => elf::EM_X86_64,
        }
    }
}
