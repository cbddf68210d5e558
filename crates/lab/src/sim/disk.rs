//! The files of one site: what stands in them, what ever stood in them, and what an open file sees.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_wire::to_server::Identity;

use super::content::{BLOCK, Content};
use super::world::World;

/// A file on the disk, whatever its name.
#[derive(Debug)]
pub(crate) struct Inode(Mutex<Node>);

#[derive(Debug)]
struct Node {
    number: u64,
    content: Content,
    modified_ns: i64,
    changed_ns: i64,
}

impl Inode {
    fn node(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn identity(&self) -> Identity {
        let node = self.node();
        Identity {
            device: 1,
            inode: node.number,
            size_bytes: node.content.size_bytes(),
            modified_ns: node.modified_ns,
            changed_ns: node.changed_ns,
        }
    }

    pub(crate) fn read(&self, range: Range<u64>) -> Option<Content> {
        self.node().content.range(range)
    }
}

/// How a file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Replace,
    Write,
    WriteSneakily,
    Grow,
    Shrink,
}

/// The disk of one site.
#[derive(Debug)]
pub(crate) struct Disk {
    world: World,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, Arc<Inode>>,
    /// Everything that ever stood under a name.
    past: BTreeMap<String, Vec<Content>>,
    next: u64,
}

impl Disk {
    pub(crate) fn new(world: &World) -> Self {
        Self { world: world.clone(), inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what a path leads to.
    pub(crate) fn open(&self, name: &str) -> Option<Arc<Inode>> {
        self.inner().names.get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.inner().past.keys().cloned().collect()
    }

    /// Gives everything that ever stood under a name.
    pub(crate) fn past(&self, name: &str) -> Vec<Content> {
        self.inner().past.get(name).cloned().unwrap_or_default()
    }

    /// Writes a new file under a name, as `rename` does: who has the old one open keeps it.
    pub(crate) fn put(&self, name: &str, content: Content) {
        let now = self.world.true_ns();
        let mut inner = self.inner();
        inner.next += 1;
        let node = Node { number: inner.next, content: content.clone(), modified_ns: now, changed_ns: now };
        inner.names.insert(name.to_owned(), Arc::new(Inode(Mutex::new(node))));
        inner.past.entry(name.to_owned()).or_default().push(content);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.inner().names.remove(name);
    }

    /// Makes content of some size, many of them awkward.
    pub(crate) fn new_content(&self) -> Content {
        let five = 5 * BLOCK;
        let sizes =
            [0, 1, five - 1, five, five + 1, 2 * five, 3 * five + 77, 12 * BLOCK, 23 * BLOCK + 3, 41 * BLOCK];
        let world = &self.world;
        let size = match world.below(12) {
            10 => 1 + world.below(60 * BLOCK),
            11 => 60 * BLOCK + world.below(40 * BLOCK),
            n => sizes[usize::try_from(n).unwrap_or(0)],
        };
        Content::fill(size, |_| world.below(u64::MAX))
    }

    /// Changes a file; nothing where there is none.
    pub(crate) fn change(&self, name: &str, change: Change) {
        let Some(inode) = self.open(name) else { return };
        let old = inode.node().content.clone();
        let size = old.size_bytes();
        let what = || self.world.below(u64::MAX);
        let content = match change {
            Change::Replace => {
                // Half of the blocks stay, so that a part of what was sent can be used again.
                let grown = if self.world.below(2) == 0 { size } else { self.new_content().size_bytes() };
                let content = Content::fill(grown, |n| match old.0.get(usize::try_from(n).unwrap_or(0)) {
                    Some(block) if self.world.below(2) == 0 => block.what,
                    Some(_) | None => what(),
                });
                return self.put(name, content);
            }
            Change::Write | Change::WriteSneakily => {
                let mut content = old;
                let count = content.0.len() as u64;
                if count == 0 {
                    return;
                }
                for _ in 0..1 + self.world.below(3) {
                    let at = usize::try_from(self.world.below(count)).unwrap_or(0);
                    content.0[at].what = what();
                }
                content
            }
            Change::Grow => {
                let more = 1 + self.world.below(8 * BLOCK);
                // The last block keeps what it has, and becomes longer.
                Content::fill(size + more, |n| {
                    old.0.get(usize::try_from(n).unwrap_or(0)).map_or_else(what, |block| block.what)
                })
            }
            Change::Shrink => old.range(0..self.world.below(size.max(1))).unwrap_or_default(),
        };
        let now = self.world.true_ns();
        let mut node = inode.node();
        node.content = content.clone();
        node.changed_ns = now;
        if change != Change::WriteSneakily {
            node.modified_ns = now;
        }
        drop(node);
        self.inner().past.entry(name.to_owned()).or_default().push(content);
    }
}
