//! Who of those that are no administrators may change a file or a folder of Windows.

use super::acl::{Entry, Sid, permits};

/// winnt.h: writing to a file is making files in a folder.
const WRITE: u32 = 0x2;
const DELETE_CHILD: u32 = 0x40;
const DELETE: u32 = 0x1_0000;
const WRITE_DAC: u32 = 0x4_0000;
const WRITE_OWNER: u32 = 0x8_0000;

/// The groups that ordinary users are in, by their English names.
pub(crate) fn outsiders(list: &[Entry]) -> Vec<String> {
    let groups = [
        ("Everyone", Sid::world()),
        ("Authenticated Users", Sid::nt(&[11])),
        ("Interactive", Sid::nt(&[4])),
        ("Users", Sid::nt(&[32, 545])),
        ("Guests", Sid::nt(&[32, 546])),
    ];
    let any = [WRITE, DELETE_CHILD, DELETE, WRITE_DAC, WRITE_OWNER];
    let may = |sid: &Sid| any.iter().any(|right| permits(list, std::slice::from_ref(sid), *right));
    groups.into_iter().filter(|(_, sid)| may(sid)).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_something_counts() {
        let entry = |denies, mask, who: Sid| Entry { denies, mask, who };
        let users = || Sid::nt(&[32, 545]);
        let read = 0x12_00a9;
        let administrators = entry(false, 0x1f_01ff, Sid::nt(&[32, 544]));
        assert!(outsiders(&[administrators, entry(false, read, users())]).is_empty());
        assert_eq!(outsiders(&[entry(false, read | WRITE, users())]), ["Users"]);
        assert_eq!(outsiders(&[entry(false, WRITE_DAC, Sid::world())]), ["Everyone"]);
        assert!(outsiders(&[entry(true, WRITE, users()), entry(false, read | WRITE, users())]).is_empty());
    }
}
