//! Files of bbolt, the store that etcd keeps its data in: written in one pass, and read.
//!
//! **Format** (all integers little-endian). A file is a row of pages of one size. A page has a
//! header of 16 bytes: its number (u64), its kind (u16), how many elements it has (u16), how many
//! pages behind it belong to it because it is larger than one (u32). Then come its elements, 16
//! bytes each, and then their keys and values; where an element's key lies is counted from the
//! element.
//!
//! ```text
//! leaf     flags (1: the value is a bucket), offset, key length, value length   u32 each
//! branch   offset, key length (u32 each), page (u64); the key is the page's first
//! freelist u64 each: pages that nobody uses
//! meta     magic, version, page size, flags (u32 each), root bucket, freelist's page,
//!          number of pages, transaction (u64 each), FNV-64a of all that (u64)
//! bucket   root page, sequence (u64 each); root 0: the page follows right here
//! ```
//!
//! Pages 0 and 1 are metas, of which the valid one with the newer transaction counts. The root
//! bucket holds the named buckets.

mod read;
mod write;

#[cfg(test)]
mod tests;

use std::io;

pub use read::{Database, Row, Rows};
pub use write::{Bucket, Writer};

/// Pages of the files that are written here, whatever the machine: etcd on amd64 writes the same.
const PAGE_BYTES: usize = 4096;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BUCKET_BYTES: usize = 16;
/// A meta without its checksum.
const META_BYTES: usize = 56;

/// The flag of a leaf's element whose value is a bucket.
const IS_BUCKET: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    Branch = 0x01,
    Leaf = 0x02,
    Meta = 0x04,
    Freelist = 0x10,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// In bbolt's words: there is no meta that one could go by.
    #[error("{0}")]
    NotBbolt(&'static str),
    #[error("page {page}: {what}")]
    Corrupt { page: u64, what: &'static str },
}

/// Where everything begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    page_bytes: u32,
    root: u64,
    freelist: u64,
    /// How many pages there are.
    pages: u64,
    transaction: u64,
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_BYTES + 8);
        for word in [MAGIC, VERSION, self.page_bytes, 0] {
            out.extend(word.to_le_bytes());
        }
        for word in [self.root, 0, self.freelist, self.pages, self.transaction] {
            out.extend(word.to_le_bytes());
        }
        out.extend(fnv64a(&out).to_le_bytes());
        out
    }

    /// # Errors What bbolt says of such a meta.
    fn decode(bytes: &[u8]) -> Result<Meta, &'static str> {
        let word = |at| u32_at(bytes, at).ok_or("invalid database");
        let long = |at| u64_at(bytes, at).ok_or("invalid database");
        if word(0)? != MAGIC {
            return Err("invalid database");
        }
        if word(4)? != VERSION {
            return Err("version mismatch");
        }
        if fnv64a(&bytes[..META_BYTES]) != long(META_BYTES)? {
            return Err("checksum error");
        }
        Ok(Meta {
            page_bytes: word(8)?,
            root: long(16)?,
            freelist: long(32)?,
            pages: long(40)?,
            transaction: long(48)?,
        })
    }
}

/// FNV-1a, whose 64 bits are enough to notice a torn page.
fn fnv64a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, mix)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
