//! The notify sockets of services that tell of their readiness by `sd_notify`. The anchor keeps each, so that what is sent
//! while the daemon is being replaced waits in the socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use keepwell_anchor::protocol::Request;
use keepwell_core::event::Level;
use keepwell_core::{RunId, ServiceId};
use keepwell_os::notify::NotifySocket;
use keepwell_os::tree::{TreeDir, TreeRoot};
use keepwell_os::{AsHandle, Handle, files, identity};

use super::{Engine, beats, boot};
use crate::notify::Allowed;

/// Prefix of the keys under which the anchor keeps notify sockets.
const PREFIX: &str = "notify/";

/// An instance's socket: where it is, and whose words are taken on it.
pub(super) struct Ear {
    address: String,
    speaker: Arc<Speaker>,
}

/// The run and main process that speak now, as the listening thread sees them.
#[derive(Default)]
pub(super) struct Speaker {
    run: AtomicU64,
    main: AtomicU32,
    /// The user that it runs as, which a reload may change for the next.
    uid: AtomicU32,
}

impl Speaker {
    /// Whether a live process belongs to the tree.
    pub(super) fn has(&self, trees: &TreeRoot, tree: &TreeDir, pid: u32) -> bool {
        let main = self.main.load(Ordering::Relaxed);
        trees.contains(tree, self.run.load(Ordering::Relaxed), (main != 0).then_some(main), pid)
    }
}

impl Engine {
    fn notify_path(&self, id: &ServiceId) -> PathBuf {
        self.options.state_dir.join("notify").join(format!("{id}.sock"))
    }

    /// The value of `NOTIFY_SOCKET`. The socket is bound when it has to be, so that the address is one that works.
    pub(super) fn notify_address(&mut self, id: &ServiceId) -> String {
        if !self.ears.contains_key(id)
            && let Some(slot) = self.slots.number(id)
            && let Err(e) = self.bind_notify(id, slot)
        {
            let now = keepwell_os::clock::now();
            let text = format!("its notify socket cannot be made, so it cannot say that it is ready: {e}");
            self.tell(now, Some(id.clone()), Level::Error, text);
        }
        self.ears.get(id).map(|e| e.address.clone()).unwrap_or_default()
    }

    fn bind_notify(&mut self, id: &ServiceId, slot: u32) -> std::io::Result<()> {
        let path = self.notify_path(id);
        if let Some(folder) = path.parent() {
            files::make_passage(folder)?;
        }
        let socket = NotifySocket::bind(&path)?;
        self.link.send(&Request::Keep(format!("{PREFIX}{id}").into_bytes()), &[socket.as_handle()]);
        self.hear(id, slot, socket, None)
    }

    fn hear(
        &mut self,
        id: &ServiceId,
        slot: u32,
        socket: NotifySocket,
        run: Option<RunId>,
    ) -> std::io::Result<()> {
        let address = socket.address()?.to_string_lossy().into_owned();
        let speaker = Arc::new(Speaker { uid: AtomicU32::new(self.uid_of(id)), ..Speaker::default() });
        let Some(tree) = self.slots.get(id).map(|s| Arc::clone(&s.tree)) else { return Ok(()) };
        let (trees, who) = (Arc::clone(&self.trees), Arc::clone(&speaker));
        let in_tree = move |pid| who.has(&trees, &tree, pid);
        let who = Arc::clone(&speaker);
        let is_user = move |uid| uid == who.uid.load(Ordering::Relaxed);
        let allowed = Allowed { is_user: Box::new(is_user), in_tree: Box::new(in_tree) };
        self.notify.add(slot, id.clone(), socket, allowed, run)?;
        self.ears.insert(id.clone(), Ear { address, speaker });
        Ok(())
    }

    /// The user that a service runs as.
    fn uid_of(&self, id: &ServiceId) -> u32 {
        self.resolve(id)
            .ok()
            .and_then(|r| super::spawn::identity_of(&r).ok().flatten())
            .map_or_else(identity::own_uid, |found| found.uid)
    }

    /// A main run is about to be started as this user: from now on its words count.
    pub(super) fn listen_notify(&mut self, id: &ServiceId, slot: u32, run: RunId, uid: u32) {
        if let Some(ear) = self.ears.get(id) {
            ear.speaker.uid.store(uid, Ordering::Relaxed);
        }
        self.notify.started(slot, run);
        self.set_speaker(id, run, 0);
    }

    pub(super) fn set_speaker(&mut self, id: &ServiceId, run: RunId, main: u32) {
        let notify = self.ears.get(id).map(|ear| &ear.speaker);
        for speaker in notify.into_iter().chain(self.beat_ears.get(id).map(|ear| &ear.speaker)) {
            speaker.run.store(run.0, Ordering::Relaxed);
            speaker.main.store(main, Ordering::Relaxed);
        }
    }

    /// Listens again on what the last daemon left; what is no endpoint of a service is only held open.
    pub(super) fn adopt_endpoints(&mut self, kept: BTreeMap<Vec<u8>, Handle>) {
        for (key, handle) in kept {
            let of = |prefix| std::str::from_utf8(&key).ok().and_then(|k| k.strip_prefix(prefix));
            let (notify, beats) = (of(PREFIX), of(beats::PREFIX));
            let Some(id) = notify.or(beats).map(boot::parse_id) else {
                self.keepsakes.push(handle);
                continue;
            };
            let Some(slot) = self.slots.number(&id) else { continue };
            let run = self.main_run(&id);
            if beats.is_some() {
                self.adopt_beat(&id, handle);
            } else if let Err(e) =
                NotifySocket::from_handle(handle).and_then(|socket| self.hear(&id, slot, socket, run))
            {
                tracing::error!(service = %id, error = %e, "a notify socket could not be taken over");
            }
            if let Some(run) = run {
                let pid = self.runs.get(&run).map_or(0, |r| r.pid);
                self.set_speaker(&id, run, pid);
            }
        }
    }

    /// The instance is no more.
    pub(super) fn drop_notify(&mut self, id: &ServiceId, slot: u32) {
        if self.ears.remove(id).is_some() {
            self.notify.remove(slot);
            self.link.send(&Request::Drop(format!("{PREFIX}{id}").into_bytes()), &[]);
            // Left behind it would only be a name that nobody listens to.
            let _ = std::fs::remove_file(self.notify_path(id));
        }
    }
}
