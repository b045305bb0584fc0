//! Transfer syntaxes: which are offered to senders, which are read from files only.

/// How Pixel Data are stored in a transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// As they are.
    Native,
    /// RLE (PS3.5 G).
    Rle,
    /// JPEG, any process (ISO/IEC 10918-1).
    Jpeg,
    /// JPEG-LS (ISO/IEC 14495-1).
    JpegLs,
    /// JPEG 2000 (ISO/IEC 15444-1).
    Jpeg2000,
}

/// One transfer syntax that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSyntax {
    /// Its UID.
    pub uid: &'static str,
    /// Its name in PS3.6 A, shortened.
    pub name: &'static str,
    /// How pixels are stored.
    pub pixels: Pixels,
    /// Is the data set deflated (PS3.5 A.5)?
    pub deflated: bool,
    /// Is it offered to senders? Others are read from files only.
    pub offered: bool,
}

/// JPEG-LS needs a C++ library, so it can be left out of a build.
const JPEG_LS: bool = cfg!(feature = "jpeg-ls");

const fn offered(uid: &'static str, name: &'static str, pixels: Pixels) -> TransferSyntax {
    TransferSyntax { uid, name, pixels, deflated: false, offered: true }
}

const fn from_files(uid: &'static str, name: &'static str, deflated: bool) -> TransferSyntax {
    TransferSyntax { uid, name, pixels: Pixels::Native, deflated, offered: false }
}

/// Every transfer syntax that can be read; JPEG-LS where it is compiled in.
///
/// JPEG Extended is missing because no decoder at hand reads its 12 bits. Deflated is not offered
/// because inflating belongs behind the process border, not into the receiver; big endian was
/// retired (PS3.5 A.3), but archives hold it.
const ALL: [TransferSyntax; 12] = [
    offered("1.2.840.10008.1.2.1", "Explicit VR Little Endian", Pixels::Native),
    offered("1.2.840.10008.1.2", "Implicit VR Little Endian", Pixels::Native),
    offered("1.2.840.10008.1.2.5", "RLE Lossless", Pixels::Rle),
    offered("1.2.840.10008.1.2.4.70", "JPEG Lossless SV1", Pixels::Jpeg),
    offered("1.2.840.10008.1.2.4.57", "JPEG Lossless", Pixels::Jpeg),
    offered("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", Pixels::JpegLs),
    offered("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless", Pixels::JpegLs),
    offered("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", Pixels::Jpeg2000),
    offered("1.2.840.10008.1.2.4.91", "JPEG 2000", Pixels::Jpeg2000),
    offered("1.2.840.10008.1.2.4.50", "JPEG Baseline", Pixels::Jpeg),
    from_files("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", true),
    from_files("1.2.840.10008.1.2.2", "Explicit VR Big Endian", false),
];

/// Every transfer syntax that this build reads.
pub fn all() -> impl Iterator<Item = TransferSyntax> {
    ALL.into_iter().filter(|syntax| JPEG_LS || syntax.pixels != Pixels::JpegLs)
}

/// The transfer syntax of a UID, where this build reads it.
#[must_use]
pub fn of(uid: &str) -> Option<TransferSyntax> {
    all().find(|syntax| syntax.uid == uid)
}
