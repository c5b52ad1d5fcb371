//! Security identifiers and access lists of Windows, as far as they can be thought about without Windows
//! (<https://learn.microsoft.com/windows/win32/secauthz/access-control-lists>).

/// A user or a group by its number, in the form that the system takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Sid(Vec<u32>);

/// `SECURITY_NT_AUTHORITY`.
const NT: u8 = 5;

impl Sid {
    /// `S-1-AUTHORITY-PART-…`.
    pub(crate) fn new(authority: u8, parts: &[u32]) -> Sid {
        let head = [1, parts.len() as u8, 0, 0, 0, 0, 0, authority];
        let word = |four: &[u8]| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
        Sid(head.chunks_exact(4).map(word).chain(parts.iter().copied()).collect())
    }

    /// From the system's form; nothing for what is none.
    pub(crate) fn of_words(words: &[u32]) -> Option<Sid> {
        let [first, ..] = words else { return None };
        let [revision, parts, ..] = first.to_ne_bytes();
        (revision == 1 && words.len() == 2 + usize::from(parts)).then(|| Sid(words.to_vec()))
    }

    /// The system's form.
    #[cfg(windows)]
    pub(crate) fn words(&self) -> &[u32] {
        &self.0
    }

    /// Whether it stands for a user or a group that somebody has made, on this host or in a domain.
    pub(crate) fn is_made(&self) -> bool {
        let [.., authority] = self.0[1].to_ne_bytes();
        authority == NT && self.0.get(2) == Some(&21)
    }

    /// Everybody.
    pub(crate) fn world() -> Sid {
        Sid::new(1, &[0])
    }

    /// `NT AUTHORITY\…` and `BUILTIN\…`.
    pub(crate) fn nt(parts: &[u32]) -> Sid {
        Sid::new(NT, parts)
    }

    /// `NT SERVICE\NAME`: made of the hash of the name in capitals, so that it is known before the service is there
    /// (<https://learn.microsoft.com/windows-server/identity/ad-ds/manage/understand-security-identifiers>).
    pub(crate) fn of_service(name: &str) -> Sid {
        let capital = |c: char| {
            let mut upper = c.to_uppercase();
            // One letter stays one letter.
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        };
        let name: String = name.chars().map(capital).collect();
        let bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let hash = sha1(&bytes);
        let parts = hash.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]]));
        Sid::new(NT, &std::iter::once(80).chain(parts).collect::<Vec<_>>())
    }

    /// `S-1-5-18`.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let [.., authority] = self.0[1].to_ne_bytes();
        let parts: String = self.0[2..].iter().map(|part| format!("-{part}")).collect();
        format!("S-1-{authority}{parts}")
    }
}

/// An entry of an access list that counts for the thing itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// It takes away.
    pub(crate) denies: bool,
    /// What, with generic rights written out.
    pub(crate) mask: u32,
    /// Of whom.
    pub(crate) who: Sid,
}

/// Whether these may do all that is wanted, as `AccessCheck` decides it: the first entry on a right counts.
pub(crate) fn permits(list: &[Entry], who: &[Sid], wanted: u32) -> bool {
    let mut left = wanted;
    for entry in list.iter().filter(|e| who.contains(&e.who)) {
        if entry.denies && entry.mask & left != 0 {
            return false;
        }
        if !entry.denies {
            left &= !entry.mask;
        }
        if left == 0 {
            return true;
        }
    }
    left == 0
}

/// The published hash (FIPS 180-4), since it is part of how Windows names services.
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if message.len() - bytes.len() < 9 {
        message.resize(message.len() + 64, 0);
    }
    let end = message.len() - 8;
    message[end..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.into_iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (whole, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *whole = whole.wrapping_add(part);
        }
    }
    let mut hash = [0; 20];
    for (into, word) in hash.chunks_exact_mut(4).zip(state) {
        into.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_number_is_known_by_its_name() {
        // The one of Windows' own installer, which stands in every access list of its files.
        let known = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
        assert_eq!(Sid::of_service("TrustedInstaller").text(), known);
        assert_eq!(Sid::of_service("trustedinstaller"), Sid::of_service("TRUSTEDINSTALLER"));
        assert_ne!(Sid::of_service("größe"), Sid::of_service("große"));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let hex = |bytes: &[u8]| sha1(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        // The length no longer fits into the first block.
        assert_eq!(hex(&[b'a'; 60]).len(), 40);
        assert_eq!(
            hex(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
    }

    #[test]
    fn numbers_are_written_as_people_know_them() {
        assert_eq!(Sid::world().text(), "S-1-1-0");
        assert_eq!(Sid::nt(&[32, 544]).text(), "S-1-5-32-544");
        let anna = Sid::nt(&[21, 1, 2, 3, 1000]);
        assert!(anna.is_made() && !Sid::nt(&[18]).is_made() && !Sid::world().is_made());
        assert_eq!(Sid::of_words(&anna.0), Some(anna.clone()));
        assert_eq!(Sid::of_words(&anna.0[..3]), None);
        assert_eq!(Sid::of_words(&[]), None);
    }

    #[test]
    fn the_first_entry_on_a_right_counts() {
        let (me, group, other) = (Sid::nt(&[21, 1]), Sid::nt(&[32, 545]), Sid::nt(&[32, 544]));
        let entry = |denies, mask, who: &Sid| Entry { denies, mask, who: who.clone() };
        let who = [me.clone(), group.clone()];
        assert!(permits(&[entry(false, 1, &me), entry(false, 2, &group)], &who, 3));
        assert!(!permits(&[entry(false, 1, &me)], &who, 3));
        assert!(!permits(&[entry(true, 2, &group), entry(false, 3, &me)], &who, 3));
        assert!(permits(&[entry(false, 3, &me), entry(true, 2, &group)], &who, 3));
        assert!(permits(&[entry(true, 4, &me), entry(false, 3, &me)], &who, 3));
        assert!(!permits(&[entry(false, 3, &other)], &who, 3));
        assert!(!permits(&[], &who, 1));
    }
}
