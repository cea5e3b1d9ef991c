//! Reading a file of bbolt. Nothing in it is believed: lengths are checked before they are used,
//! keys must ascend, and a walk that meets more pages than there are ends with an error.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use super::{
    BUCKET_BYTES, ELEMENT_BYTES, Error, IS_BUCKET, Kind, META_BYTES, Meta, PAGE_HEADER_BYTES,
    u16_at, u32_at, u64_at,
};

/// Page sizes of bbolt are those of machines' memory.
const PAGE_BYTES_MIN: u32 = 1 << 10;
const PAGE_BYTES_MAX: u32 = 1 << 24;

/// Far above the height of a file that fills the largest disk.
const HEIGHT_MAX: usize = 64;

/// An open file.
#[derive(Debug)]
pub struct Database {
    file: File,
    meta: Meta,
}

/// Key and value.
pub type Row<'a> = (&'a [u8], &'a [u8]);

/// The rows of a bucket in the order of their keys.
pub struct Rows<'a> {
    database: &'a Database,
    /// From the root to the page whose rows are next; with the next element of each.
    path: Vec<(Page, usize)>,
    /// Pages that the walk may still meet.
    pages_left: u64,
    /// What was returned last.
    key: Vec<u8>,
    value: Vec<u8>,
    is_bucket: bool,
}

struct Page {
    number: u64,
    kind: Kind,
    count: usize,
    /// With its header.
    bytes: Vec<u8>,
}

impl Database {
    /// # Errors [`Error::NotBbolt`] in bbolt's words, when neither meta can be used.
    pub fn open(file: File) -> Result<Database, Error> {
        let bytes = file.metadata()?.len();
        let first = read_meta(&file, 0)?;
        let (first, page_bytes) = match first {
            Ok(meta) => (Ok(meta), meta.page_bytes),
            Err(what) => {
                // Without the first meta the page size is unknown: the second stands at its place.
                let mut size = PAGE_BYTES_MIN;
                let is_there = |size: u32| matches!(read_meta(&file, size.into()), Ok(Ok(_)));
                while size < PAGE_BYTES_MAX && !is_there(size) {
                    size *= 2;
                }
                (Err(what), size)
            }
        };
        let second = read_meta(&file, page_bytes.into())?;
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.transaction > first.transaction => second,
            (Ok(meta), _) | (Err(_), Ok(meta)) => meta,
            (Err(what), Err(_)) => return Err(Error::NotBbolt(what)),
        };
        let is_size = meta.page_bytes.is_power_of_two()
            && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&meta.page_bytes);
        if !is_size {
            return Err(Error::NotBbolt("invalid database"));
        }
        let database = Database { file, meta };
        if database.bytes().is_none_or(|needed| needed > bytes) {
            return Err(Error::NotBbolt("the file is cut off"));
        }
        Ok(database)
    }

    /// Bytes of the file that belong to it; what is behind them does not.
    pub fn size(&self) -> u64 {
        self.bytes().unwrap_or(u64::MAX)
    }

    fn bytes(&self) -> Option<u64> {
        self.meta.pages.checked_mul(self.meta.page_bytes.into())
    }

    /// Names of all buckets, in order.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut names = Vec::new();
        let mut rows = self.rows(self.meta.root)?;
        while rows.step()? {
            if rows.is_bucket {
                names.push(rows.key.clone());
            }
        }
        Ok(names)
    }

    /// The rows of a bucket; `None` when there is no such bucket.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Rows<'_>>, Error> {
        let mut rows = self.rows(self.meta.root)?;
        while rows.step()? {
            if rows.is_bucket && rows.key == name {
                return self.rows_of(&rows.value).map(Some);
            }
        }
        Ok(None)
    }

    /// All rows of a bucket that is known to be small; empty when there is no such bucket.
    pub fn small_bucket(&self, name: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut found = BTreeMap::new();
        if let Some(mut rows) = self.bucket(name.as_bytes())? {
            while let Some((key, value)) = rows.next_row()? {
                found.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(found)
    }

    /// The rows of the bucket that an element's value describes.
    fn rows_of(&self, bucket: &[u8]) -> Result<Rows<'_>, Error> {
        let corrupt = Error::Corrupt { page: self.meta.root, what: "a bucket has no root" };
        match u64_at(bucket, 0) {
            Some(0) => {
                let bytes = bucket.get(BUCKET_BYTES..).ok_or(corrupt)?.to_vec();
                let page = Page::parse(0, bytes)?;
                Ok(self.rows_from(page))
            }
            Some(root) if bucket.len() >= BUCKET_BYTES => self.rows(root),
            Some(_) | None => Err(corrupt),
        }
    }

    fn rows(&self, root: u64) -> Result<Rows<'_>, Error> {
        let (page, pages) = self.page(root)?;
        let mut rows = self.rows_from(page);
        rows.pages_left = rows.pages_left.saturating_sub(pages);
        Ok(rows)
    }

    fn rows_from(&self, page: Page) -> Rows<'_> {
        Rows {
            database: self,
            path: vec![(page, 0)],
            pages_left: self.meta.pages,
            key: Vec::new(),
            value: Vec::new(),
            is_bucket: false,
        }
    }

    /// A page with those that belong to it, and how many they are.
    fn page(&self, number: u64) -> Result<(Page, u64), Error> {
        let corrupt = |what| Error::Corrupt { page: number, what };
        if number >= self.meta.pages {
            return Err(corrupt("it lies behind the last page"));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let place = number * page_bytes;
        let mut header = [0; PAGE_HEADER_BYTES];
        self.file.read_exact_at(&mut header, place)?;
        if u64_at(&header, 0) != Some(number) {
            return Err(corrupt("it has another number"));
        }
        let pages = 1 + u64::from(u32_at(&header, 12).unwrap_or(0));
        if pages > self.meta.pages - number {
            return Err(corrupt("it is longer than the file"));
        }
        let length = usize::try_from(pages * page_bytes).map_err(|_| corrupt("it is too long"))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, place)?;
        Ok((Page::parse(number, bytes)?, pages))
    }
}

/// The meta at a place of the file, or what is wrong with it.
fn read_meta(file: &File, page: u64) -> Result<Result<Meta, &'static str>, Error> {
    let mut bytes = [0; META_BYTES + 8];
    match file.read_exact_at(&mut bytes, page + PAGE_HEADER_BYTES as u64) {
        Ok(()) => Ok(Meta::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err("invalid database")),
        Err(error) => Err(error.into()),
    }
}

impl Rows<'_> {
    /// The next row; `None` behind the last one. Buckets within the bucket are passed over.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, Error> {
        while self.step()? {
            if !self.is_bucket {
                return Ok(Some((&self.key, &self.value)));
            }
        }
        Ok(None)
    }

    /// Goes to the next element of a leaf; `false` when there is none.
    fn step(&mut self) -> Result<bool, Error> {
        while let Some((page, next)) = self.path.last_mut() {
            if *next == page.count {
                self.path.pop();
                continue;
            }
            let at = *next;
            *next += 1;
            match page.kind {
                Kind::Leaf => {
                    let (flags, key, value) = page.row(at)?;
                    let is_first = self.key.is_empty();
                    if key.is_empty() || (!is_first && key <= self.key.as_slice()) {
                        return Err(page.corrupt("its keys do not ascend"));
                    }
                    self.is_bucket = flags & IS_BUCKET != 0;
                    self.key.clear();
                    self.key.extend_from_slice(key);
                    self.value.clear();
                    self.value.extend_from_slice(value);
                    return Ok(true);
                }
                Kind::Branch => {
                    let child = page.child(at)?;
                    self.descend(child)?;
                }
                Kind::Meta | Kind::Freelist => {
                    return Err(page.corrupt("it is no page of a bucket"));
                }
            }
        }
        Ok(false)
    }

    fn descend(&mut self, child: u64) -> Result<(), Error> {
        let (page, pages) = self.database.page(child)?;
        let left = self.pages_left.checked_sub(pages);
        self.pages_left = left.ok_or_else(|| page.corrupt("it is used more than once"))?;
        if self.path.len() == HEIGHT_MAX {
            return Err(page.corrupt("it lies too deep"));
        }
        self.path.push((page, 0));
        Ok(())
    }
}

impl Page {
    fn parse(number: u64, bytes: Vec<u8>) -> Result<Page, Error> {
        let corrupt = |what| Error::Corrupt { page: number, what };
        let (Some(flags), Some(count)) = (u16_at(&bytes, 8), u16_at(&bytes, 10)) else {
            return Err(corrupt("it is cut off"));
        };
        let kinds = [Kind::Branch, Kind::Leaf, Kind::Meta, Kind::Freelist];
        let kind = kinds.into_iter().find(|kind| *kind as u16 == flags);
        let kind = kind.ok_or_else(|| corrupt("it is of no known kind"))?;
        Ok(Page { number, kind, count: count.into(), bytes })
    }

    /// Flags, key and value.
    fn row(&self, at: usize) -> Result<(u32, &[u8], &[u8]), Error> {
        let start = PAGE_HEADER_BYTES + at * ELEMENT_BYTES;
        let word = |number: usize| {
            u32_at(&self.bytes, start + number * 4).ok_or_else(|| self.corrupt("it is cut off"))
        };
        let (flags, offset) = (word(0)?, word(1)? as usize);
        let (key_bytes, value_bytes) = (word(2)? as usize, word(3)? as usize);
        let data = self.bytes.get(start + offset..).unwrap_or_default();
        let data = data.get(..key_bytes + value_bytes);
        let data = data.ok_or_else(|| self.corrupt("a row lies outside of it"))?;
        let (key, value) = data.split_at(key_bytes);
        Ok((flags, key, value))
    }

    /// The page that an element of a branch stands for.
    fn child(&self, at: usize) -> Result<u64, Error> {
        let start = PAGE_HEADER_BYTES + at * ELEMENT_BYTES;
        u64_at(&self.bytes, start + 8).ok_or_else(|| self.corrupt("it is cut off"))
    }

    fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { page: self.number, what }
    }
}
