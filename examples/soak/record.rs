//! A file that is written in blocks, read back, and closed by the chain that writes its last block.
//!
//! ```text
//!   block: to do ─ Write │ WriteFixed ─► written ─ Read │ ReadFixed ─► compared
//!   all:   Close::after(file, (write, fsync)) ─► closed, or given back
//! ```

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use annulus::ChainEnd;
use annulus::lease::FixedBuf;
use annulus::op::{Close, Fsync, Outcome, Read, ReadFixed, Write, WriteFixed};

use super::act::{Act, Hall};
use super::chance::{Chance, bytes, compare};
use super::desk::Desk;
use super::tally::Count;
use super::trouble::{Check, Trouble, equal, finding, may_end};

/// How long a block is.
const BLOCK: usize = 4096;

/// How far a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    ToDo,
    Busy,
    Written,
    Compared,
}

/// How far all are; the last element is the block that the chain writes.
type Blocks = Rc<RefCell<Vec<Block>>>;

/// Handles the result of work on a block, and the buffer.
type Ends = Box<dyn FnOnce(io::Result<usize>, &[u8]) -> Check>;

/// A file, and a desk that works on it.
pub struct Record {
    key: u64,
    blocks: Blocks,
    file: Option<Rc<OwnedFd>>,
    /// The same file, for the standard library.
    other: File,
    desk: usize,
}

/// A file without a name.
pub fn nameless(chance: &mut Chance) -> io::Result<File> {
    let (process, number) = (std::process::id(), chance.next());
    let path = std::env::temp_dir().join(format!("annulus-soak-{process}-{number:x}"));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

impl Record {
    pub fn new(hall: &mut Hall) -> Result<Self, Trouble> {
        let file = nameless(&mut hall.chance)?;
        let other = file.try_clone()?;
        let blocks = vec![Block::ToDo; 1 + hall.chance.up_to(12)];
        let desk = hall.chance.below(u32::try_from(hall.desks.len()).unwrap_or(1)) as usize;
        Ok(Self {
            key: hall.chance.next(),
            blocks: Rc::new(RefCell::new(blocks)),
            file: Some(Rc::new(file.into())),
            other,
            desk,
        })
    }

    /// Works on one block, if the ring takes it.
    fn work(&self, desk: &mut Desk, at: usize, file: Rc<OwnedFd>) -> Check {
        let (key, place) = (self.key, (at * BLOCK) as u64);
        let was = self.blocks.borrow()[at];
        let blocks = Rc::clone(&self.blocks);
        let ends = move |result: io::Result<usize>, buf: &[u8]| {
            let step = match (was, result) {
                (Block::ToDo, Ok(BLOCK)) => Block::Written,
                (Block::ToDo, Ok(_)) => Block::ToDo,
                (_, Ok(0)) => return finding("a file ends before its blocks"),
                (_, Ok(count)) => {
                    equal("bytes that a read filled", buf.len(), count)?;
                    if count == BLOCK { Block::Compared } else { was }
                }
                (_, Err(error)) => {
                    blocks.borrow_mut()[at] = was;
                    return may_end("work on a file", &error);
                }
            };
            blocks.borrow_mut()[at] = step;
            compare(key, place, buf)
        };
        let fixed = desk.fixed.as_ref().and_then(|pool| pool.get());
        let fixed = fixed.filter(|buf| buf.capacity() == BLOCK);
        let own = |ends: Ends| {
            move |out: Outcome<usize, Rc<OwnedFd>, Vec<u8>>| ends(out.result, &out.buf)
        };
        let accepted = match (was, fixed) {
            (Block::ToDo, Some(mut buf)) => {
                buf.set_len(BLOCK);
                buf.copy_from_slice(&bytes(key, place, BLOCK));
                let ends = move |out: Outcome<usize, _, FixedBuf>| ends(out.result, &out.buf);
                desk.submit(WriteFixed::new(file, buf).at(place), ends)
            }
            (Block::ToDo, None) => {
                let write = Write::new(file, bytes(key, place, BLOCK)).at(place);
                desk.submit(write, own(Box::new(ends)))
            }
            (_, Some(buf)) => {
                let ends = move |out: Outcome<usize, _, FixedBuf>| ends(out.result, &out.buf);
                desk.submit(ReadFixed::new(file, buf).at(place), ends)
            }
            (_, None) => {
                let read = Read::new(file, Vec::with_capacity(BLOCK)).at(place);
                desk.submit(read, own(Box::new(ends)))
            }
        }?;
        if accepted {
            self.blocks.borrow_mut()[at] = Block::Busy;
        }
        Ok(())
    }

    /// Writes the last block, and closes, in one chain.
    fn finish(&mut self, hall: &mut Hall) -> Check {
        let desk = &mut hall.desks[self.desk];
        let Some(file) = self.file.take() else { return Ok(()) };
        let Ok(file) = Rc::try_unwrap(file) else {
            return finding("a file that no operation has did not come back");
        };
        let (key, blocks) = (self.key, Rc::clone(&self.blocks));
        let last = blocks.borrow().len() - 1;
        if hall.closes_plainly {
            blocks.borrow_mut()[last] = Block::Compared;
            return Ok(());
        }
        let place = (last * BLOCK) as u64;
        let chain = Close::after(file, |file| {
            let write = Write::new(file.clone(), bytes(key, place, BLOCK)).at(place);
            (write, Fsync::new(file))
        });
        let accepted = desk.submit_chain(chain, 3, move |chain| {
            let ((write, sync), close) = chain.outputs;
            let closed = close.result.is_ok();
            equal("a descriptor that a chain closed is back", close.fd.is_some(), !closed)?;
            if chain.end == ChainEnd::Complete {
                equal("a chain is complete, and its close", closed, true)?;
                equal("a chain is complete, and its write", write.result?, BLOCK)?;
                sync.result?;
                blocks.borrow_mut()[last] = Block::Written;
            } else {
                blocks.borrow_mut()[last] = Block::Compared; // It was cut, and need not be there.
            }
            Ok(())
        })?;
        // A ring with a polling thread takes no such chain: the file is closed by its drop.
        let next = if accepted { Block::Busy } else { Block::Compared };
        self.blocks.borrow_mut()[last] = next;
        Ok(())
    }
}

impl Act for Record {
    fn step(&mut self, hall: &mut Hall) -> Check {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let desk = &mut hall.desks[self.desk];
        let last = self.blocks.borrow().len() - 1;
        for at in 0..last {
            let block = self.blocks.borrow()[at];
            if matches!(block, Block::ToDo | Block::Written) && desk.chance.one_in(2) {
                self.work(desk, at, Rc::clone(&file))?;
            }
        }
        drop(file);
        if self.blocks.borrow()[..last].iter().all(|&block| block == Block::Compared) {
            self.finish(hall)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let blocks = self.blocks.borrow();
        let last = blocks[blocks.len() - 1];
        self.file.is_none() && matches!(last, Block::Written | Block::Compared)
    }

    fn end(self: Box<Self>, hall: &mut Hall, tidily: bool) -> Check {
        let blocks = self.blocks.borrow();
        for (at, block) in blocks.iter().enumerate() {
            if tidily && (at + 1 < blocks.len() || *block == Block::Written) {
                let (mut buf, place) = (vec![0; BLOCK], (at * BLOCK) as u64);
                self.other.read_exact_at(&mut buf, place)?;
                compare(self.key, place, &buf)?;
                hall.tally.add(Count::Bytes, BLOCK as u64);
            }
        }
        self.file.iter().for_each(|file| hall.outlive(Rc::clone(file)));
        Ok(())
    }

    fn name(&self) -> &'static str {
        "a file"
    }
}
