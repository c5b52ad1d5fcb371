//! What the daemon knows of each instance's slot: its number, and how its tree is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_core::ServiceId;
use keepwell_os::tree::{TreeDir, TreeRoot};
use keepwell_sdk::wire;

use crate::log::LogHub;
use crate::meter::Look;

/// One instance's slot.
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) tree: Arc<TreeDir>,
    main_pid: Option<u32>,
}

/// All slots, and the folder of cgroups that they stand in.
pub(super) struct Slots {
    by_id: BTreeMap<ServiceId, Slot>,
    root: TreeRoot,
    next_number: u32,
}

impl Slots {
    pub(super) fn new(root: TreeRoot) -> Self {
        Self { by_id: BTreeMap::new(), root, next_number: 1 }
    }

    pub(super) fn root(&mut self) -> &mut TreeRoot {
        &mut self.root
    }

    pub(super) fn get(&self, id: &ServiceId) -> Option<&Slot> {
        self.by_id.get(id)
    }

    pub(super) fn number(&self, id: &ServiceId) -> Option<u32> {
        self.by_id.get(id).map(|s| s.number)
    }

    pub(super) fn owner(&self, number: u32) -> Option<&ServiceId> {
        self.by_id.iter().find(|(_, s)| s.number == number).map(|(id, _)| id)
    }

    pub(super) fn ids(&self) -> Vec<ServiceId> {
        self.by_id.keys().cloned().collect()
    }

    pub(super) fn next_number(&mut self) -> u32 {
        let n = self.next_number;
        self.next_number += 1;
        n
    }

    pub(super) fn insert(&mut self, id: ServiceId, number: u32, tree: TreeDir) {
        self.next_number = self.next_number.max(number + 1);
        let slot = Slot { number, tree: Arc::new(tree), main_pid: None };
        self.by_id.insert(id, slot);
    }

    /// The tree with limits that were set anew.
    pub(super) fn set_tree(&mut self, id: &ServiceId, tree: TreeDir) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.tree = Arc::new(tree);
        }
    }

    pub(super) fn remove(&mut self, id: &ServiceId) -> Option<u32> {
        let slot = self.by_id.remove(id)?;
        self.root.remove(&slot.tree);
        Some(slot.number)
    }

    pub(super) fn set_main_pid(&mut self, id: &ServiceId, pid: Option<u32>) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.main_pid = pid;
        }
    }

    /// Fills in how its tree is held. Answers what to look at for what it uses, if anything of it runs.
    pub(super) fn describe(&self, id: &ServiceId, line: &mut wire::Status) -> Option<Look> {
        self.root.containment().clone_into(&mut line.containment);
        line.limits = self.by_id.get(id)?.tree.limits().to_vec();
        self.look(id)
    }

    /// What to look at for what its tree uses, if anything of it runs.
    pub(super) fn look(&self, id: &ServiceId) -> Option<Look> {
        let slot = self.by_id.get(id)?;
        let (tree, number) = (&slot.tree, slot.number);
        slot.main_pid.map(|main_pid| Look { tree: Arc::clone(tree), main_pid, slot: number, members: None })
    }

    pub(super) fn mechanisms(&self) -> Vec<String> {
        self.root.mechanisms()
    }

    /// Lets the log path take what is left, and removes the cgroups.
    pub(super) fn close_all(&mut self, log: &LogHub) {
        for slot in std::mem::take(&mut self.by_id).into_values() {
            log.close(slot.number);
        }
        self.root.close();
    }

    /// The anchor is gone: kill what is left of every tree.
    pub(super) fn end_all_trees(&mut self) {
        let stuck = self.root.kill_all();
        if stuck > 0 {
            tracing::error!(stuck, "processes that could not be ended");
        }
        self.root.close();
    }
}
