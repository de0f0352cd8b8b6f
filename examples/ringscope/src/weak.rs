//! Memory that two processors see in different orders: a tiny model, and listings that are wrong
//! on it.
//!
//! ```text
//!   listing: two threads of a few lines ─► every order that its barriers allow ─► one that fails
//! ```
//!
//! A line may run ahead of an earlier line of its thread unless something orders the two: they are
//! on one word, a barrier stands between, the earlier one acquires, the later one releases, its
//! address comes from the earlier one, or it is a store and hangs on a branch. A store that runs
//! late is one that still lies in a store buffer. A release and a later acquire of another word are
//! not ordered, as in Rust; some processors do more. All orders are tried, so what is found for a
//! wrong listing is a fact of the model, and so is that nothing is found for its right twin.
//!
//! Leaves to others: pictures (`weak_picture`), and the proof for our rings (`tests/loom`).

/// What a line does with a word of memory, or with the order of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Load(Word),
    Store(Word, u32),
    /// A load that no later line runs ahead of.
    Acquire(Word),
    /// A store that runs ahead of no earlier line.
    Release(Word, u32),
    ReadBarrier,
    WriteBarrier,
    FullBarrier,
}

/// A word of shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    CqHead,
    CqTail,
    Cqe,
    SqTail,
    Flags,
}

impl Word {
    pub const ALL: [Self; 5] = [Self::CqHead, Self::CqTail, Self::Cqe, Self::SqTail, Self::Flags];

    pub fn name(self) -> &'static str {
        ["cq.head", "cq.tail", "cqe[0]", "sq.tail", "flags"][self.number()]
    }

    fn number(self) -> usize {
        Self::ALL.iter().position(|&word| word == self).unwrap_or(0)
    }
}

/// A line of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub text: &'static str,
    pub act: Act,
    /// It runs only if the load in that line, counted from 0, gave that value.
    pub only_if: Option<(usize, u32)>,
    /// Its address comes from that line.
    pub address: Option<usize>,
}

/// A line that runs in any case.
pub const fn line(text: &'static str, act: Act) -> Line {
    Line { text, act, only_if: None, address: None }
}

/// The values that the loads of a thread gave.
pub type Registers = Vec<Option<u32>>;

/// A listing: the program's lines and the kernel's, and when it has failed.
#[derive(Debug, Clone)]
pub struct Listing {
    pub name: &'static str,
    pub title: &'static str,
    /// Where it is printed.
    pub source: &'static str,
    pub program: Vec<Line>,
    /// The same lines as they should be.
    pub right: Vec<Line>,
    pub kernel: Vec<Line>,
    /// What memory holds at first.
    pub memory: [u32; 5],
    /// Whether these registers, of the program and of the kernel, are a failure.
    pub fails: fn(&Registers, &Registers) -> bool,
    /// What the failure is.
    pub failure: &'static str,
    /// What a value of a word is called.
    pub said: fn(Word, u32) -> String,
}

/// A line that ran: of which thread, and with which value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub is_kernel: bool,
    pub line: usize,
    pub value: u32,
    pub memory: [u32; 5],
}

/// What was found in all orders.
#[derive(Debug, Default)]
pub struct Found {
    pub orders: usize,
    /// How many of them fail.
    pub failures: usize,
    /// One that fails: of those with the fewest lines ahead of others, the first.
    pub failing: Option<Vec<Step>>,
}

impl Act {
    pub fn word(self) -> Option<Word> {
        match self {
            Self::Load(word) | Self::Acquire(word) => Some(word),
            Self::Store(word, _) | Self::Release(word, _) => Some(word),
            _ => None,
        }
    }

    pub const fn is_load(self) -> bool {
        matches!(self, Self::Load(_) | Self::Acquire(_))
    }

    fn stores(self) -> Option<u32> {
        match self {
            Self::Store(_, value) | Self::Release(_, value) => Some(value),
            _ => None,
        }
    }
}

/// Why the line `late` may not run ahead of the line `early` of its thread; `None` if it may.
pub fn order(lines: &[Line], early: usize, late: usize) -> Option<&'static str> {
    let (a, b) = (lines[early].act, lines[late].act);
    if a.word() == b.word() {
        return Some("both are on one word");
    }
    if matches!(a, Act::Acquire(_)) {
        return Some("the load acquires");
    }
    if matches!(b, Act::Release(..)) {
        return Some("the store releases");
    }
    if lines[late].address == Some(early) {
        return Some("its address comes from there");
    }
    if !b.is_load() && lines[late].only_if.is_some_and(|(on, _)| on == early) {
        return Some("no store runs ahead of its branch");
    }
    let between = &lines[early + 1..late];
    let has = |act| between.iter().any(|line| line.act == act);
    if has(Act::FullBarrier) {
        return Some("a full barrier stands between");
    }
    if a.is_load() && b.is_load() && has(Act::ReadBarrier) {
        return Some("a read barrier stands between");
    }
    (!a.is_load() && !b.is_load() && has(Act::WriteBarrier))
        .then_some("a write barrier stands between")
}

/// A thread on its way.
#[derive(Debug, Clone)]
struct Thread<'a> {
    lines: &'a [Line],
    done: Vec<bool>,
    registers: Registers,
}

impl<'a> Thread<'a> {
    fn new(lines: &'a [Line]) -> Self {
        let done = lines.iter().map(|line| line.act.word().is_none()).collect();
        Self { lines, done, registers: vec![None; lines.len()] }
    }

    /// Whether the branch of a line is not taken.
    fn is_dead(&self, at: usize) -> bool {
        let Some((on, value)) = self.lines[at].only_if else { return false };
        self.registers[on].is_some_and(|found| found != value)
    }

    fn can_run(&self, at: usize) -> bool {
        if self.done[at] || self.is_dead(at) {
            return false;
        }
        (0..at).all(|early| {
            self.done[early] || self.is_dead(early) || order(self.lines, early, at).is_none()
        })
    }

    /// What counts in the end: a load whose branch was not taken gave nothing.
    fn outcome(&self) -> Registers {
        let value = |at: usize| if self.is_dead(at) { None } else { self.registers[at] };
        (0..self.lines.len()).map(value).collect()
    }
}

/// Tries all orders of a listing with these lines of the program.
pub fn search(listing: &Listing, program: &[Line]) -> Found {
    let mut found = Found::default();
    let threads = [Thread::new(program), Thread::new(&listing.kernel)];
    go_on(listing, &threads, listing.memory, &mut Vec::new(), &mut found);
    found
}

fn go_on(
    listing: &Listing,
    threads: &[Thread<'_>; 2],
    memory: [u32; 5],
    steps: &mut Vec<Step>,
    found: &mut Found,
) {
    let mut is_over = true;
    for (number, thread) in threads.iter().enumerate() {
        for at in (0..thread.lines.len()).filter(|&at| thread.can_run(at)) {
            is_over = false;
            let mut threads = threads.clone();
            let (value, memory) = run(&mut threads[number], at, memory);
            steps.push(Step { is_kernel: number == 1, line: at, value, memory });
            go_on(listing, &threads, memory, steps, found);
            steps.pop();
        }
    }
    if is_over {
        found.orders += 1;
        let [program, kernel] = threads;
        if !(listing.fails)(&program.outcome(), &kernel.outcome()) {
            return;
        }
        found.failures += 1;
        let count = |steps: &[Step]| -> usize {
            (0..steps.len())
                .map(|at| overtaken(threads[usize::from(steps[at].is_kernel)].lines, steps, at))
                .map(|passed| passed.len())
                .sum()
        };
        if found.failing.as_ref().is_none_or(|best| count(steps) < count(best)) {
            found.failing = Some(steps.clone());
        }
    }
}

fn run(thread: &mut Thread<'_>, at: usize, mut memory: [u32; 5]) -> (u32, [u32; 5]) {
    let act = thread.lines[at].act;
    let word = act.word().expect("barriers do not run").number();
    thread.done[at] = true;
    match act.stores() {
        Some(value) => {
            memory[word] = value;
            (value, memory)
        }
        None => {
            thread.registers[at] = Some(memory[word]);
            (memory[word], memory)
        }
    }
}

/// The earlier lines of its thread that the line of a step ran ahead of.
pub fn overtaken(lines: &[Line], steps: &[Step], at: usize) -> Vec<usize> {
    let step = steps[at];
    let later = steps[at + 1..].iter().filter(|other| other.is_kernel == step.is_kernel);
    let mut found: Vec<usize> =
        later.map(|other| other.line).filter(|&line| line < step.line).collect();
    found.retain(|&line| lines[line].act.word().is_some());
    found.sort_unstable();
    found
}
