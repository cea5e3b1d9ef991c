//! Writing a file of bbolt from rows that come in order: each page is written once, full, and never
//! looked at again. What is kept in memory is one page of each height of the tree.

use std::io::{self, Seek, SeekFrom, Write};

use super::{BUCKET_BYTES, ELEMENT_BYTES, IS_BUCKET, Kind, Meta, PAGE_BYTES, PAGE_HEADER_BYTES};

/// Pages 0 and 1 are metas.
const FREELIST: u64 = 2;
const FIRST_FREE: u64 = 3;

/// A file that grows. Its metas are written last, so before [`Writer::finish`] it is no file of
/// bbolt.
pub struct Writer<W> {
    out: W,
    next_page: u64,
    root: Tree,
}

/// A bucket that grows: its rows must come in the order of their keys, each once.
pub struct Bucket<'a, W> {
    writer: &'a mut Writer<W>,
    name: String,
    tree: Tree,
    latest: Option<Vec<u8>>,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a file at the beginning of `out`, which is empty.
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        let mut writer = Writer { out, next_page: FREELIST, root: Tree::default() };
        writer.page(&Page { kind: Kind::Freelist, elements: Vec::new(), data: Vec::new() })?;
        debug_assert_eq!(writer.next_page, FIRST_FREE);
        Ok(writer)
    }

    /// Begins a bucket. Buckets must come in the order of their names.
    pub fn bucket(&mut self, name: &str) -> Bucket<'_, W> {
        Bucket { writer: self, name: name.to_owned(), tree: Tree::default(), latest: None }
    }

    /// The file, complete, and how large it is.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let root = std::mem::take(&mut self.root).finish(&mut self)?;
        let pages = self.next_page;
        self.out.seek(SeekFrom::Start(0))?;
        for transaction in [2, 1] {
            let page_bytes = u32::try_from(PAGE_BYTES).expect("it is a small constant");
            let meta = Meta { page_bytes, root, freelist: FREELIST, pages, transaction };
            let mut page = header(transaction % 2, Kind::Meta, 0, 0);
            page.extend(meta.encode());
            page.resize(PAGE_BYTES, 0);
            self.out.write_all(&page)?;
        }
        self.out.flush()?;
        Ok((self.out, pages * PAGE_BYTES as u64))
    }

    /// Writes a page behind all others. Its number.
    fn page(&mut self, page: &Page) -> io::Result<u64> {
        let number = self.next_page;
        let pages = page.bytes().div_ceil(PAGE_BYTES);
        let count = u16::try_from(page.elements.len()).map_err(|_| too_much("a page"))?;
        let overflow = u32::try_from(pages - 1).map_err(|_| too_much("a page"))?;
        let mut bytes = header(number, page.kind, count, overflow);
        // Where an element's key lies, counted from the element.
        let mut place = page.elements.len() * ELEMENT_BYTES;
        for element in &page.elements {
            let offset = u32::try_from(place).map_err(|_| too_much("a page"))?;
            element.encode(offset, &mut bytes);
            place = place - ELEMENT_BYTES + element.data_bytes();
        }
        self.out.write_all(&bytes)?;
        self.out.write_all(&page.data)?;
        let written = bytes.len() + page.data.len();
        self.out.write_all(&vec![0; pages * PAGE_BYTES - written])?;
        self.next_page += pages as u64;
        Ok(number)
    }
}

impl<W: Write + Seek> Bucket<'_, W> {
    /// # Errors `InvalidInput` when the key is not behind all others.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.is_empty() || self.latest.as_deref().is_some_and(|latest| latest >= key) {
            let what = format!("bucket {}: a key is empty or not behind the others", self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let latest = self.latest.get_or_insert_default();
        latest.clear();
        latest.extend_from_slice(key);
        self.tree.put(self.writer, 0, key, value)
    }

    pub fn finish(self) -> io::Result<()> {
        let root = self.tree.finish(self.writer)?;
        let mut value = [0; BUCKET_BYTES];
        value[..8].copy_from_slice(&root.to_le_bytes());
        let mut buckets = std::mem::take(&mut self.writer.root);
        buckets.put(self.writer, IS_BUCKET, self.name.as_bytes(), &value)?;
        self.writer.root = buckets;
        Ok(())
    }
}

/// The pages of a bucket that are not written yet, by their height: leaves first.
#[derive(Default)]
struct Tree {
    heights: Vec<Page>,
}

impl Tree {
    fn put<W: Write + Seek>(
        &mut self,
        writer: &mut Writer<W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        let (key_bytes, value_bytes) = (length(key)?, length(value)?);
        let element = Element::Row { flags, key_bytes, value_bytes };
        self.push(writer, 0, element, key, value)
    }

    /// Puts an element into the open page at this height, or into a new one when it is full.
    fn push<W: Write + Seek>(
        &mut self,
        writer: &mut Writer<W>,
        height: usize,
        element: Element,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        if self.heights.len() == height {
            let kind = if height == 0 { Kind::Leaf } else { Kind::Branch };
            self.heights.push(Page { kind, elements: Vec::new(), data: Vec::new() });
        }
        if self.heights[height].is_full(&element) {
            self.write(writer, height)?;
        }
        let page = &mut self.heights[height];
        page.elements.push(element);
        page.data.extend_from_slice(key);
        page.data.extend_from_slice(value);
        Ok(())
    }

    /// Writes the open page at this height and notes it one height above.
    fn write<W: Write + Seek>(&mut self, writer: &mut Writer<W>, height: usize) -> io::Result<()> {
        let page = &mut self.heights[height];
        let number = writer.page(page)?;
        let first = page.first_key().to_vec();
        page.elements.clear();
        page.data.clear();
        let element = Element::Page { key_bytes: length(&first)?, number };
        self.push(writer, height + 1, element, &first, &[])
    }

    /// Writes what is left. The number of the root page.
    fn finish<W: Write + Seek>(mut self, writer: &mut Writer<W>) -> io::Result<u64> {
        if self.heights.is_empty() {
            let empty = Page { kind: Kind::Leaf, elements: Vec::new(), data: Vec::new() };
            return writer.page(&empty);
        }
        let mut height = 0;
        while height + 1 < self.heights.len() {
            self.write(writer, height)?;
            height += 1;
        }
        let top = &self.heights[height];
        match top.elements.as_slice() {
            [Element::Page { number, .. }] => Ok(*number),
            _ => writer.page(top),
        }
    }
}

/// A page that is being filled.
struct Page {
    kind: Kind,
    elements: Vec<Element>,
    /// Keys and values of all elements.
    data: Vec<u8>,
}

enum Element {
    Row { flags: u32, key_bytes: u32, value_bytes: u32 },
    Page { key_bytes: u32, number: u64 },
}

impl Page {
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// Whether an element must go to the next page. A branch has two at least, so that the tree
    /// grows narrower with each height.
    fn is_full(&self, element: &Element) -> bool {
        let least = match self.kind {
            Kind::Branch => 2,
            Kind::Leaf | Kind::Meta | Kind::Freelist => 1,
        };
        self.elements.len() >= least
            && self.bytes() + ELEMENT_BYTES + element.data_bytes() > PAGE_BYTES
    }

    fn first_key(&self) -> &[u8] {
        let bytes = match self.elements.first() {
            Some(Element::Row { key_bytes, .. } | Element::Page { key_bytes, .. }) => *key_bytes,
            None => 0,
        };
        &self.data[..bytes as usize]
    }
}

impl Element {
    /// Of its key and value.
    fn data_bytes(&self) -> usize {
        match self {
            Element::Row { key_bytes, value_bytes, .. } => {
                *key_bytes as usize + *value_bytes as usize
            }
            Element::Page { key_bytes, .. } => *key_bytes as usize,
        }
    }

    /// `offset` is from the element to its key.
    fn encode(&self, offset: u32, out: &mut Vec<u8>) {
        let words = match self {
            Element::Row { flags, key_bytes, value_bytes } => {
                [*flags, offset, *key_bytes, *value_bytes]
            }
            Element::Page { key_bytes, number } => {
                let [low, high] = [*number as u32, (*number >> 32) as u32];
                [offset, *key_bytes, low, high]
            }
        };
        words.into_iter().for_each(|word| out.extend(word.to_le_bytes()));
    }
}

fn header(number: u64, kind: Kind, count: u16, overflow: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(PAGE_BYTES);
    header.extend(number.to_le_bytes());
    header.extend((kind as u16).to_le_bytes());
    header.extend(count.to_le_bytes());
    header.extend(overflow.to_le_bytes());
    header
}

fn length(part: &[u8]) -> io::Result<u32> {
    // bbolt's own limit.
    const BYTES_MAX: usize = i32::MAX as usize - 2;
    if part.len() > BYTES_MAX {
        return Err(too_much("a key or value"));
    }
    Ok(part.len() as u32)
}

fn too_much(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is larger than bbolt's format"))
}
