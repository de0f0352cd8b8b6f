//! Registering buffers, files and credentials with a ring.
//!
//! | to make | call | since |
//! |---|---|---|
//! | a buffer ring, which the kernel selects from | [`Ring::buf_ring`], [`Ring::buf_ring_with`] | Linux 5.19 |
//! | registered buffers, whose pages the kernel knows | [`Ring::fixed_pool`] | Linux 5.1 |
//! | a send ring, whose buffers are sent in order | [`Ring::send_ring`] | Linux 6.10 |
//! | a table of registered files | [`Ring::file_table`] | Linux 5.19 |
//! | credentials | [`Ring::register_personality`] | Linux 5.6 |
//!
//! Leaves to others: what these are (`lease`), and the system calls (`raw::register`).

use std::io;
use std::os::fd::AsFd;

use annulus_sys::groups::RingMemory;

use crate::lease::buf_ring::Wanted;
use crate::lease::{BufRing, FileTable, FixedFile, FixedPool, RegisterError, SendRing, Table};
use crate::op::InsertFile;
use crate::raw::register::{Consumption, Personality};
use crate::ring::Ring;

/// # Registering buffers, files and credentials
impl<U: Default> Ring<U> {
    /// Makes a buffer ring: `count` buffers of `size` bytes each that the kernel selects from.
    /// Since Linux 5.19.
    ///
    /// A ring may have any number of buffer rings at a time, and makes at most 65536 in its life. A
    /// buffer ring that is dropped with all its leases is unregistered when the next one is made,
    /// or with the ring.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless `count` is a power of two of at most 32768.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::RecvProvided;
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let Ok(buffers) = ring.buf_ring(16, 4096) else { return Ok(()) }; // Linux 5.19
    /// let (mut client, server) = UnixStream::pair()?;
    /// let recv = ring.submit(RecvProvided::new(server, &buffers))?;
    /// client.write_all(b"hello")?;
    /// let lease = ring.wait(recv)?.result?.expect("the client is still there");
    /// assert_eq!(&lease[..], b"hello"); // Dropping the lease gives the buffer back.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub fn buf_ring(&mut self, count: u32, size: u32) -> Result<BufRing, RegisterError> {
        self.buf_ring_with(count, size, RingMemory::User, Consumption::Whole)
    }

    /// As [`buf_ring`](Self::buf_ring), with a choice of memory and of consumption. The kernel may
    /// allocate the memory of the ring (not of the buffers), since Linux 6.4. Buffers may be
    /// consumed incrementally, since Linux 6.12.
    ///
    /// # Errors
    ///
    /// As [`buf_ring`](Self::buf_ring); [`RegisterError::Unsupported`] for an option that this
    /// kernel lacks; [`RegisterError::Invalid`] for [`RingMemory::Kernel`] in a ring that has made
    /// 2,048 buffer rings.
    #[doc(alias = "IOU_PBUF_RING_MMAP")]
    #[doc(alias = "IOU_PBUF_RING_INC")]
    pub fn buf_ring_with(
        &mut self,
        count: u32,
        size: u32,
        memory: RingMemory,
        used: Consumption,
    ) -> Result<BufRing, RegisterError> {
        let wanted = Wanted { count, size, memory, used };
        self.registered.pools.make(&self.raw, self.id, wanted)
    }

    /// Makes and registers `count` buffers of `size` bytes each, zeroed. Each begins at a multiple
    /// of 64 bytes, and of a page if `size` is one. Since Linux 5.1.
    ///
    /// A ring has one pool at a time. When the pool and all its buffers are dropped, another can be
    /// made. Before Linux 6.13, that waits for every operation in flight that uses a registered
    /// file. Before 5.13, any registration waits for everything in flight: make the pool first.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] while there is another pool, and [`RegisterError::LockedMemory`]
    /// beyond the memory that this user may lock.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::ReadFixed;
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let pool = ring.fixed_pool(4, 4096)?;
    /// let buf = pool.get().expect("all four are free");
    /// let read = ring.submit(ReadFixed::new(File::open("/dev/zero")?, buf))?;
    /// let (count, buf) = ring.wait(read)?.ok()?;
    /// assert_eq!((count, buf.len()), (4096, 4096)); // Dropping it returns it to the pool.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IORING_REGISTER_BUFFERS")]
    pub fn fixed_pool(&mut self, count: u16, size: u32) -> Result<FixedPool, RegisterError> {
        self.registered.fixed_pool(self.raw.base(), self.id, count, size)
    }

    /// Makes a send ring: `count` buffers of `size` bytes each, to fill and send in order. It can
    /// be made since Linux 5.19, and sent from since Linux 6.10.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless `count` is a power of two of at most 32768;
    /// [`RegisterError::Restricted`] on a ring that may not ask how far the kernel got
    /// (`PBUF_STATUS`).
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub fn send_ring(&mut self, count: u32, size: u32) -> Result<SendRing, RegisterError> {
        self.registered.send_ring(&self.raw, self.id, count, size)
    }

    /// Makes a table for `count` files, all of its places empty. Since Linux 5.19.
    ///
    /// A ring has one table at a time. When the table, its files and the operations that fill it
    /// are dropped, another can be made. Before Linux 6.13, that waits for every operation in
    /// flight that uses a registered buffer, because these kernels release files and buffers
    /// together.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] while there is another table, and [`RegisterError::TooManyFiles`]
    /// when `count` exceeds the number of files that this process may have open.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let Ok(table) = ring.file_table(16) else { return Ok(()) }; // Linux 5.19
    /// let zeroes = table.insert(&mut ring, File::open("/dev/zero")?)?;
    /// let read = ring.submit(op::Read::new(zeroes.clone(), [1; 8]))?;
    /// assert_eq!(ring.wait(read)?.buf, [0; 8]);
    /// drop(zeroes); // The last clone: this closes the file.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IORING_REGISTER_FILES2")]
    #[doc(alias = "io_uring_register_files_sparse")]
    pub fn file_table(&mut self, count: u32) -> Result<FileTable, RegisterError> {
        self.registered.file_table(self.raw.base(), self.id, count)
    }

    /// Registers the credentials that this thread has now, for operations that are submitted [as
    /// that personality](crate::op::Op::acting_as). Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_personality(&mut self) -> Result<Personality, RegisterError> {
        self.raw.register_personality().map(|who| who.on(self.id))
    }
}

impl FileTable {
    /// Opens the file of `fd` in the table too, and waits for that. The file stays open in the
    /// table when `fd` is closed. To do it without waiting, submit an [`InsertFile`].
    ///
    /// # Errors
    ///
    /// The kernel's: `ENFILE` when the table is full. The text of that error, "Too many open files
    /// in system", means the ring's table here. [`Rejected`](crate::Rejected), if the operation
    /// could not be submitted.
    ///
    /// # Panics
    ///
    /// When the table belongs to another ring.
    #[track_caller]
    pub fn insert<U: Default>(&self, ring: &mut Ring<U>, fd: impl AsFd) -> io::Result<FixedFile> {
        assert!(self.0.ring() == ring.id, "a table of {} on {}", self.0.ring(), ring.id);
        Table::sweep(&self.0);
        ring.scope(|scope| {
            let insert = scope.submit(InsertFile::new(fd.as_fd(), self))?;
            scope.wait(insert)?.result
        })
    }

    /// Takes a place of the table that has no file yet, and waits for that. Operations can open a
    /// file there, use it and [close](crate::op::ClearFile) it, all in one chain: see
    /// [`OpenAt::direct_to`](crate::op::OpenAt::direct_to).
    ///
    /// Until then a placeholder lies in it: `/dev/null`, opened for neither reading nor writing, so
    /// that a read or write fails with `EBADF`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert); and those of opening the placeholder, once for each table.
    ///
    /// # Panics
    ///
    /// When the table belongs to another ring.
    #[track_caller]
    pub fn reserve<U: Default>(&self, ring: &mut Ring<U>) -> io::Result<FixedFile> {
        let placeholder = self.0.placeholder()?;
        self.insert(ring, &*placeholder)
    }
}
