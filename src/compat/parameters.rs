//! What the kernel said about a ring when it made it.

use std::fmt;

use annulus_sys::abi::Params;
use annulus_sys::flags::{Features, SetupFlags};

/// The parameters of a ring, as the kernel returned them.
///
/// It is laid out as the kernel's `struct io_uring_params`.
#[derive(Clone)]
#[repr(transparent)]
pub struct Parameters(pub(super) Params);

impl Parameters {
    /// Whether a kernel thread polls for entries.
    pub fn is_setup_sqpoll(&self) -> bool {
        self.0.flags.contains(SetupFlags::SQPOLL)
    }

    /// Whether the kernel polls devices for completions.
    pub fn is_setup_iopoll(&self) -> bool {
        self.0.flags.contains(SetupFlags::IOPOLL)
    }

    /// Whether only one thread may submit.
    pub fn is_setup_single_issuer(&self) -> bool {
        self.0.flags.contains(SetupFlags::SINGLE_ISSUER)
    }

    /// Whether both rings lie in one mapping. Since Linux 5.4.
    pub fn is_feature_single_mmap(&self) -> bool {
        self.0.features.contains(Features::SINGLE_MMAP)
    }

    /// Whether the kernel keeps completions that find the queue full. Since Linux 5.5.
    pub fn is_feature_nodrop(&self) -> bool {
        self.0.features.contains(Features::NODROP)
    }

    /// Whether the kernel has copied what entries point to, apart from buffers, when a submission
    /// returns. Since Linux 5.5.
    pub fn is_feature_submit_stable(&self) -> bool {
        self.0.features.contains(Features::SUBMIT_STABLE)
    }

    /// Whether an offset of `u64::MAX` is the file's own position. Since Linux 5.6.
    pub fn is_feature_rw_cur_pos(&self) -> bool {
        self.0.features.contains(Features::RW_CUR_POS)
    }

    /// Whether requests run with the credentials of the task that submits them. Since Linux 5.6.
    pub fn is_feature_cur_personality(&self) -> bool {
        self.0.features.contains(Features::CUR_PERSONALITY)
    }

    /// Whether the kernel waits for sockets and pipes without a worker thread. Since Linux 5.7.
    pub fn is_feature_fast_poll(&self) -> bool {
        self.0.features.contains(Features::FAST_POLL)
    }

    /// Whether a poll takes all 32 bits of events. Since Linux 5.9.
    pub fn is_feature_poll_32bits(&self) -> bool {
        self.0.features.contains(Features::POLL_32BITS)
    }

    /// Whether a polling thread takes plain descriptors too. Since Linux 5.11.
    pub fn is_feature_sqpoll_nonfixed(&self) -> bool {
        self.0.features.contains(Features::SQPOLL_NONFIXED)
    }

    /// Whether an enter takes a timeout. Since Linux 5.11.
    pub fn is_feature_ext_arg(&self) -> bool {
        self.0.features.contains(Features::EXT_ARG)
    }

    /// Whether worker threads are threads of the process. Since Linux 5.12.
    pub fn is_feature_native_workers(&self) -> bool {
        self.0.features.contains(Features::NATIVE_WORKERS)
    }

    /// Whether registered buffers and files may have tags. Since Linux 5.13.
    pub fn is_feature_resource_tagging(&self) -> bool {
        self.0.features.contains(Features::RSRC_TAGS)
    }

    /// Whether an entry may ask for no completion when it succeeds. Since Linux 5.17.
    pub fn is_feature_skip_cqe_on_success(&self) -> bool {
        self.0.features.contains(Features::CQE_SKIP)
    }

    /// Whether a linked entry finds its file when its turn has come. Since Linux 5.17.
    pub fn is_feature_linked_file(&self) -> bool {
        self.0.features.contains(Features::LINKED_FILE)
    }

    /// Whether sends and receives take bundles of buffers. Since Linux 6.10.
    pub fn is_feature_recvsend_bundle(&self) -> bool {
        self.0.features.contains(Features::RECVSEND_BUNDLE)
    }

    /// Whether an enter takes a minimum wait. Since Linux 6.12.
    pub fn is_feature_min_timeout(&self) -> bool {
        self.0.features.contains(Features::MIN_TIMEOUT)
    }

    /// Whether a wait may be left out of the iowait account. Since Linux 6.15.
    pub fn is_feature_no_iowait(&self) -> bool {
        self.0.features.contains(Features::NO_IOWAIT)
    }

    /// How many submission entries the ring has.
    pub fn sq_entries(&self) -> u32 {
        self.0.sq_entries
    }

    /// After how many idle milliseconds the polling thread sleeps.
    pub fn sq_thread_idle(&self) -> u32 {
        self.0.sq_thread_idle
    }

    /// How many completion entries the ring has.
    pub fn cq_entries(&self) -> u32 {
        self.0.cq_entries
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("flags", &self.0.flags)
            .field("features", &self.0.features)
            .field("sq_entries", &self.0.sq_entries)
            .field("cq_entries", &self.0.cq_entries)
            .field("sq_thread_idle", &self.0.sq_thread_idle)
            .finish()
    }
}
