//! User and group names to numbers: from `/etc/passwd` and `/etc/group`, and what is not there from `getent`, which knows
//! all sources of the host. The C library's own look-up is not used: a static program cannot load its modules.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::clock;
use super::wait::{Interest, Waiter};
use crate::types::Identity;

/// The only account whose guardian can start programs as others, where it has a name that says so: here rights decide.
pub const BECOMES_OTHERS: Option<&str> = None;

/// A directory service that does not answer in this time counts as not knowing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a name means nothing here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// Neither in the file nor known to `getent`.
    #[error("there is no user `{0}` on this host")]
    NoUser(String),
    /// The same for groups.
    #[error("there is no group `{0}` on this host")]
    NoGroup(String),
    /// A number that no entry tells the primary group of.
    #[error("user {0} has no entry on this host, so its group must be given too")]
    NoEntry(u32),
}

/// User, group and supplementary groups of `user` and `group`, which are names or numbers. Without a group it is the user's own; the supplementary groups are the user's
/// in any case.
///
/// # Errors
/// When a name is unknown.
pub fn lookup(user: &str, group: Option<&str>) -> Result<Identity, IdentityError> {
    Sources { passwd: "/etc/passwd", group: "/etc/group", getent }.lookup(user, group)
}

/// The name of a user, for people; its number where there is none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let sources = Sources { passwd: "/etc/passwd", group: "/etc/group", getent };
    let found = sources.find("passwd", sources.passwd, |e| e.id == uid, &uid.to_string());
    found.map_or_else(|| uid.to_string(), |e| e.name)
}

/// Name and home folder of a user given by name or number, where the host knows them.
#[must_use]
pub fn account(user: &str) -> Option<(String, String)> {
    let sources = Sources { passwd: "/etc/passwd", group: "/etc/group", getent };
    let number = user.parse::<u32>().ok();
    let entry = sources.find("passwd", sources.passwd, |e| e.name == user || Some(e.id) == number, user)?;
    Some((entry.name, entry.home))
}

/// The effective user that this process runs as.
#[must_use]
#[expect(unsafe_code, reason = "geteuid has no safe form in the standard library")]
pub fn own_uid() -> u32 {
    // SAFETY: cannot fail and has no arguments.
    unsafe { libc::geteuid() }
}

/// The number of a group, by name or number.
///
/// # Errors
/// When the name is unknown.
pub fn group_id(group: &str) -> Result<u32, IdentityError> {
    Sources { passwd: "/etc/passwd", group: "/etc/group", getent }.group(group)
}

/// One line of passwd(5) or group(5), whose first and third fields mean the same.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    name: String,
    id: u32,
    /// The fourth field: a user's group, a group's members.
    fourth: String,
    /// The sixth field: a user's home folder.
    home: String,
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let id = fields.nth(1)?.parse().ok()?;
        let fourth = fields.next()?.trim_end().to_owned();
        Some(Entry { name: name.to_owned(), id, fourth, home: fields.nth(1).unwrap_or_default().to_owned() })
    }
}

struct Sources {
    passwd: &'static str,
    group: &'static str,
    getent: fn(&str, &str) -> Option<String>,
}

impl Sources {
    fn lookup(&self, user: &str, group: Option<&str>) -> Result<Identity, IdentityError> {
        let gid = group.map(|g| self.group(g)).transpose()?;
        let number = user.parse::<u32>().ok();
        let entry = self.find("passwd", self.passwd, |e| e.name == user || Some(e.id) == number, user);
        let Some(entry) = entry else {
            let uid = number.ok_or_else(|| IdentityError::NoUser(user.to_owned()))?;
            let gid = gid.ok_or(IdentityError::NoEntry(uid))?;
            return Ok(Identity { uid, gid, groups: vec![gid], account: None });
        };
        let own = entry.fourth.parse().map_err(|_| IdentityError::NoUser(user.to_owned()))?;
        let gid = gid.unwrap_or(own);
        let mut groups = self.groups_of(&entry);
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(Identity { uid: entry.id, gid, groups, account: None })
    }

    fn group(&self, group: &str) -> Result<u32, IdentityError> {
        if let Ok(number) = group.parse() {
            return Ok(number);
        }
        let entry = self.find("group", self.group, |e| e.name == group, group);
        entry.map(|e| e.id).ok_or_else(|| IdentityError::NoGroup(group.to_owned()))
    }

    fn find(&self, base: &str, file: &str, is: impl Fn(&Entry) -> bool, key: &str) -> Option<Entry> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().filter_map(Entry::parse).find(&is);
        // A name may not look like an option or be empty; such a one is in no source.
        let askable = !key.is_empty() && !key.starts_with('-');
        found.or_else(|| {
            (self.getent)(base, key).filter(|_| askable)?.lines().filter_map(Entry::parse).find(is)
        })
    }

    /// A user that the file knows has its groups there too; the others are asked for.
    fn groups_of(&self, user: &Entry) -> Vec<u32> {
        let text = fs::read_to_string(self.group).unwrap_or_default();
        let member = |e: &Entry| e.fourth.split(',').any(|m| m == user.name);
        let listed = text.lines().filter_map(Entry::parse).filter(member).map(|e| e.id);
        let mut groups: Vec<u32> = listed.collect();
        let passwd = fs::read_to_string(self.passwd).unwrap_or_default();
        if !passwd.lines().filter_map(Entry::parse).any(|e| e == *user) {
            let text = (self.getent)("initgroups", &user.name).unwrap_or_default();
            groups.extend(text.split_ascii_whitespace().skip(1).filter_map(|g| g.parse::<u32>().ok()));
        }
        groups
    }
}

/// `getent BASE KEY`'s output, if it ends well and in time.
fn getent(base: &str, key: &str) -> Option<String> {
    let mut command = Command::new("getent");
    command.args([base, key]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take().and_then(|out| read_in_time(out).ok());
    if output.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    output.filter(|_| status.success())
}

fn read_in_time(mut out: impl Read + AsFd) -> io::Result<String> {
    let limit = clock::mono() + PATIENCE;
    let (mut waiter, mut wakes) = (Waiter::new()?, Vec::new());
    waiter.add(out.as_fd(), 0, Interest::Read)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        waiter.wait(Some(limit), &mut wakes)?;
        if clock::mono() >= limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match out.read(&mut buffer)? {
            0 => return String::from_utf8(bytes).map_err(io::Error::other),
            n => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(passwd: &str, group: &str, getent: fn(&str, &str) -> Option<String>) -> Sources {
        let folder = Box::leak(Box::new(tempfile::tempdir().unwrap()));
        let file = |name: &str, text: &str| -> &'static str {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            String::leak(path.to_str().unwrap().to_owned())
        };
        Sources { passwd: file("passwd", passwd), group: file("group", group), getent }
    }

    fn files() -> Sources {
        let passwd = "# comment\nroot:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:33:web:/srv:/bin/false\n";
        let group = "root:x:0:\nweb:x:33:\nssl:x:110:web,db\nlog:x:4:db,web\nother:x:5:webb\n";
        sources(passwd, group, |_, _| None)
    }

    #[test]
    fn names_and_numbers_from_the_files() {
        let web = Identity { uid: 33, gid: 33, groups: vec![4, 33, 110], account: None };
        assert_eq!(files().lookup("web", None).unwrap(), web);
        assert_eq!(files().lookup("33", None).unwrap(), web);
        assert_eq!(
            files().lookup("web", Some("ssl")).unwrap(),
            Identity { gid: 110, groups: vec![4, 110], ..web.clone() }
        );
        assert_eq!(files().lookup("web", Some("77")).unwrap().gid, 77);
        assert_eq!(
            files().lookup("4711", Some("log")).unwrap(),
            Identity { uid: 4711, gid: 4, groups: vec![4], account: None }
        );
    }

    #[test]
    fn what_nobody_knows_is_said() {
        assert_eq!(files().lookup("nobody-here", None), Err(IdentityError::NoUser("nobody-here".into())));
        assert_eq!(
            files().lookup("web", Some("nogroup-here")),
            Err(IdentityError::NoGroup("nogroup-here".into()))
        );
        assert_eq!(files().lookup("4711", None), Err(IdentityError::NoEntry(4711)));
        assert_eq!(files().lookup("", None), Err(IdentityError::NoUser(String::new())));
    }

    #[test]
    fn what_the_files_do_not_know_is_asked_for() {
        let directory: fn(&str, &str) -> Option<String> = |base, key| match (base, key) {
            ("passwd", "ada" | "5001") => Some("ada:*:5001:5000:Ada:/home/ada:/bin/sh\n".into()),
            ("group", "staff") => Some("staff:*:5000:\n".into()),
            ("initgroups", "ada") => Some("ada                   5000 5007\n".into()),
            _ => None,
        };
        let sources = sources("", "local:x:9:ada\n", directory);
        let ada = Identity { uid: 5001, gid: 5000, groups: vec![9, 5000, 5007], account: None };
        assert_eq!(sources.lookup("ada", None).unwrap(), ada);
        assert_eq!(sources.lookup("5001", Some("staff")).unwrap(), ada);
    }

    #[test]
    fn this_hosts_root_is_known() {
        assert_eq!(lookup("root", None).unwrap().uid, 0);
        assert_eq!(lookup("0", Some("0")).unwrap().gid, 0);
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
        assert_eq!(group_id("0"), Ok(0));
        assert!(lookup("no-such-user-here", None).is_err());
    }
}
