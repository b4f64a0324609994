//! PAX extension records: what they say of an entry, read and written. Never knows where they stood.

use std::collections::BTreeMap;

use super::encoding;
use super::header::owner;
use super::limits::Limits;
use super::sparse::PaxSparse;
use crate::Time;

const XATTR: &[u8] = b"SCHILY.xattr.";
const XATTR_LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
/// XATTR_NAME_MAX of Linux.
const XATTR_NAME_BYTES_MAX: usize = 255;

/// What extension records say of an entry; what they do not say, its header says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Box<[u8]>>,
    pub(super) link: Option<Box<[u8]>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub(super) sparse: PaxSparse,
    xattrs_bytes: usize,
}

/// Why records are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// A record that does not parse.
    Record {
        /// Its keyword, or the first bytes of what should be a record.
        keyword: Vec<u8>,
        /// Why.
        reason: &'static str,
    },
    /// More than a limit allows.
    Limit {
        /// Its name.
        limit: &'static str,
        /// What it counts.
        what: &'static str,
        /// What it allows.
        max: usize,
    },
}

impl Pax {
    /// Applies the records of an extension header's `body`, in order. An empty value takes a record back, also one of
    /// a global header. On error, what came before the fault is applied.
    pub(super) fn apply(&mut self, mut body: &[u8], limits: &Limits) -> Result<(), Fault> {
        // Some writers fill the block with NULs and count them.
        while body.iter().any(|b| *b != 0) {
            let fault = |reason| Fault::Record {
                keyword: body.get(..20).unwrap_or(body).to_vec(),
                reason,
            };
            let (keyword, value, rest) = split_record(body).map_err(fault)?;
            self.set(keyword, value, limits)?;
            body = rest;
        }
        Ok(())
    }

    fn set(&mut self, keyword: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        let fault = |reason| Fault::Record {
            keyword: keyword.to_vec(),
            reason,
        };
        if let Some(name) = keyword.strip_prefix(XATTR) {
            return self.set_xattr(name.into(), value.into(), limits, &fault);
        }
        if let Some(name) = keyword.strip_prefix(XATTR_LIBARCHIVE) {
            let name = encoding::percent_decode(name)
                .ok_or_else(|| fault("name is not percent-encoded"))?;
            let value =
                encoding::base64_decode(value).ok_or_else(|| fault("value is not base64"))?;
            return self.set_xattr(name.into(), value.into(), limits, &fault);
        }
        let said = !value.is_empty();
        match keyword {
            b"path" => self.path = said.then(|| value.into()),
            b"linkpath" => self.link = said.then(|| value.into()),
            b"size" => {
                self.size =
                    optional(said, decimal(value)).ok_or_else(|| fault("no decimal number"))?
            }
            b"uid" => {
                self.uid = optional(said, parse_owner(value)).ok_or_else(|| fault("no owner"))?
            }
            b"gid" => {
                self.gid = optional(said, parse_owner(value)).ok_or_else(|| fault("no group"))?
            }
            b"mtime" => {
                self.mtime = optional(said, parse_time(value)).ok_or_else(|| fault("no time"))?
            }
            _ if keyword.starts_with(b"GNU.sparse.") => {
                self.sparse.set(keyword, value).map_err(fault)?
            }
            // Access and change times are the file system's own; names of owners mean nothing in an image.
            _ => {}
        }
        Ok(())
    }

    /// An attribute may be empty, so that here an empty value takes nothing back.
    fn set_xattr(
        &mut self,
        name: Box<[u8]>,
        value: Box<[u8]>,
        limits: &Limits,
        fault: &dyn Fn(&'static str) -> Fault,
    ) -> Result<(), Fault> {
        if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) {
            return Err(fault(
                "attribute name is empty, longer than 255 bytes or with a NUL",
            ));
        }
        let over = |limit, what, max| Err(Fault::Limit { limit, what, max });
        if value.len() > limits.xattr_bytes_max {
            return over(
                "xattr_bytes_max",
                "bytes of one extended attribute",
                limits.xattr_bytes_max,
            );
        }
        let added = name.len() + value.len();
        let name_len = name.len();
        if let Some(old) = self.xattrs.insert(name, value) {
            self.xattrs_bytes = self.xattrs_bytes.saturating_sub(name_len + old.len());
        }
        self.xattrs_bytes = self.xattrs_bytes.saturating_add(added);
        if self.xattrs_bytes > limits.xattrs_bytes_max {
            return over(
                "xattrs_bytes_max",
                "bytes of extended attributes",
                limits.xattrs_bytes_max,
            );
        }
        Ok(())
    }

    /// Bytes that a copy costs: global records are copied for every entry.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
        text(&self.path) + text(&self.link) + self.xattrs_bytes + self.sparse.bytes()
    }
}

/// Keyword, value, and what follows.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the first record, `LENGTH KEYWORD=VALUE\n`, off `body`; the length counts the whole record.
fn split_record(body: &[u8]) -> Result<Split<'_>, &'static str> {
    let space = body
        .iter()
        .take(20)
        .position(|b| *b == b' ')
        .ok_or("no length")?;
    let (length, _) = body.split_at_checked(space).ok_or("no length")?;
    let length = decimal(length)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or("no length")?;
    let (record, rest) = body
        .split_at_checked(length)
        .ok_or("length beyond the header's end")?;
    let text = record
        .get(space + 1..)
        .and_then(|text| text.strip_suffix(b"\n"))
        .ok_or("no newline at its end")?;
    let equals = text
        .iter()
        .position(|b| *b == b'=')
        .ok_or("no equals sign")?;
    let (keyword, value) = text.split_at_checked(equals).ok_or("no equals sign")?;
    if keyword.is_empty() {
        return Err("no keyword");
    }
    Ok((keyword, value.get(1..).unwrap_or_default(), rest))
}

/// Turns "was said, and is" into a value to store; the outer `None` is a fault.
fn optional<T>(said: bool, value: Option<T>) -> Option<Option<T>> {
    if said { value.map(Some) } else { Some(None) }
}

/// Reads digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_owner(text: &[u8]) -> Option<u32> {
    let (negative, digits) = sign(text);
    let value = i64::try_from(decimal(digits)?).ok()?;
    owner(if negative { -value } else { value })
}

/// Reads seconds with a sign and a fraction; what is below a nanosecond is cut.
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = sign(text);
    let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, b"".as_slice()),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let seconds = if whole.is_empty() {
        0
    } else {
        i64::try_from(decimal(whole)?).ok()?
    };
    let mut nanos = 0_u32;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanos = nanos * 10 + digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time {
            seconds: -seconds,
            nanos,
        },
        // Nanoseconds count forward: a tenth before the epoch is nine tenths after the second before.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// Appends a record to an extension header's body.
pub(super) fn write_record(body: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let bare = keyword.len() + value.len() + b" =\n".len();
    // The length counts its own digits: one more of them can make one more.
    let mut length = bare;
    while length != bare + digits(length) {
        length = bare + digits(length);
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(keyword);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

fn digits(number: usize) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |log| usize::try_from(log).unwrap_or_default() + 1)
}

/// Appends the record of a time.
pub(super) fn write_time(body: &mut Vec<u8>, keyword: &[u8], time: Time) {
    // The same instant as sign and magnitude.
    let (sign, seconds, nanos) = match time {
        Time {
            seconds: 0..,
            nanos,
        } => ("", seconds_abs(time.seconds), nanos),
        Time { seconds, nanos: 0 } => ("-", seconds_abs(seconds), 0),
        Time { seconds, nanos } => (
            "-",
            seconds_abs(seconds) - 1,
            1_000_000_000_u32.saturating_sub(nanos),
        ),
    };
    let text = match nanos {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{nanos:09}")
            .trim_end_matches('0')
            .to_owned(),
    };
    write_record(body, keyword, text.as_bytes());
}

fn seconds_abs(seconds: i64) -> u64 {
    seconds.unsigned_abs()
}

/// Appends the record of an extended attribute.
pub(super) fn write_xattr(body: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if name.contains(&b'=') {
        // The keyword ends at the first equals sign, so that only the encoded form can name this one.
        let keyword = [XATTR_LIBARCHIVE, &encoding::percent_encode(name)].concat();
        write_record(body, &keyword, &encoding::base64_encode(value));
    } else {
        write_record(body, &[XATTR, name].concat(), value);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn body(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (keyword, value) in records {
            write_record(&mut body, keyword.as_bytes(), value);
        }
        body
    }

    fn parse(records: &[(&str, &[u8])]) -> Result<Pax, Fault> {
        let mut pax = Pax::default();
        pax.apply(&body(records), &Limits::default()).map(|()| pax)
    }

    #[test]
    fn records_are_merged_in_order() {
        let pax = parse(&[
            ("path", b"first"),
            ("path", b"a\nb=c"),
            ("linkpath", b"t"),
            ("size", b"8589934592"),
            ("uid", b"4294967293"),
            ("gid", b"-2"),
            ("comment", b"nothing"),
            ("SCHILY.xattr.user.k", b"a=\0\n"),
            ("SCHILY.xattr.user.empty", b""),
            ("LIBARCHIVE.xattr.user.%3d%25", b"AQID/w"),
        ])
        .unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a\nb=c".as_slice()));
        assert_eq!(pax.link.as_deref(), Some(b"t".as_slice()));
        assert_eq!(
            (pax.size, pax.uid, pax.gid),
            (Some(1 << 33), Some(4_294_967_293), Some(4_294_967_294))
        );
        let xattrs: Vec<_> = pax.xattrs.iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"user.=%", b"\x01\x02\x03\xff"),
            (b"user.empty", b""),
            (b"user.k", b"a=\0\n"),
        ];
        assert_eq!(xattrs, expected);
    }

    #[test]
    fn an_empty_value_takes_a_record_back() {
        let pax = parse(&[
            ("path", b"a"),
            ("uid", b"7"),
            ("mtime", b"1"),
            ("path", b""),
            ("uid", b""),
            ("mtime", b""),
        ]);
        assert_eq!(pax, Ok(Pax::default()));
    }

    #[test]
    fn times_keep_sign_and_fraction() {
        type Case<'a> = (&'a [u8], Option<(i64, u32)>);
        let cases: [Case<'_>; 14] = [
            (b"1600000000.123456789", Some((1_600_000_000, 123_456_789))),
            (b"1600000000.1234567899", Some((1_600_000_000, 123_456_789))),
            (b"0", Some((0, 0))),
            (b"-100", Some((-100, 0))),
            (b"-100.5", Some((-101, 500_000_000))),
            (b"-0.000000001", Some((-1, 999_999_999))),
            (b"4102444800.", Some((4_102_444_800, 0))),
            (b".5", Some((0, 500_000_000))),
            (b"1e9", None),
            (b"1.5x", None),
            (b"1.1234567890x", None),
            (b"", None),
            (b"-", None),
            (b"99999999999999999999", None),
        ];
        for (text, time) in cases {
            let expected = time.map(|(seconds, nanos)| Time { seconds, nanos });
            assert_eq!(parse_time(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"path=a\n"[..],
            b"11 path=a\n",
            b"10 path=ab\n",
            b"3 \n\n",
            b"0 a=b\n",
            b"6 a-b \n",
            b"5 =b\n",
            b"99999999999999999999999 a=b\n",
            b" 6 a=b\n",
            b"-6 a=b\n",
            b"12 uid=abcd\n",
            b"28 uid=18446744073709551616\n",
            b"19 uid=4294967296\n",
            b"12 mtime=1x\n",
            b"11 size=-1\n",
            b"11 size=1k\n",
            b"17 SCHILY.xattr.=\n",
        ] {
            let result = Pax::default().apply(bad, &Limits::default());
            let refused = matches!(&result, Err(Fault::Record { .. }));
            assert!(refused, "{}: {result:?}", bad.escape_ascii());
        }
    }

    #[test]
    fn attributes_have_limits() {
        let limits = Limits {
            xattr_bytes_max: 10,
            xattrs_bytes_max: 30,
            ..Limits::default()
        };
        let apply = |records: &[(&str, &[u8])]| Pax::default().apply(&body(records), &limits);
        assert_eq!(
            apply(&[
                ("SCHILY.xattr.user.a", &[1; 10]),
                ("SCHILY.xattr.user.a", &[2; 10])
            ]),
            Ok(())
        );
        let over = |result| match result {
            Err(Fault::Limit { limit, .. }) => limit,
            _ => "none",
        };
        assert_eq!(
            over(apply(&[("SCHILY.xattr.user.a", &[1; 11])])),
            "xattr_bytes_max"
        );
        assert_eq!(
            over(apply(&[
                ("SCHILY.xattr.user.a", &[1; 10]),
                ("SCHILY.xattr.user.b", &[2; 10])
            ])),
            "xattrs_bytes_max"
        );
    }

    #[test]
    fn lengths_count_themselves() {
        for len in [0, 1, 90, 91, 92, 93, 94, 95, 988, 989, 990, 991, 992, 993] {
            let value = vec![b'v'; len];
            let written = body(&[("k", &value)]);
            assert_eq!(
                split_record(&written),
                Ok((b"k".as_slice(), value.as_slice(), b"".as_slice())),
                "{len}"
            );
        }
    }

    proptest! {
        #[test]
        fn times_come_back(seconds in any::<i64>(), nanos in 0_u32..1_000_000_000) {
            prop_assume!(seconds > i64::MIN);
            let mut body = Vec::new();
            write_time(&mut body, b"mtime", Time { seconds, nanos });
            let mut pax = Pax::default();
            prop_assert_eq!(pax.apply(&body, &Limits::default()), Ok(()));
            prop_assert_eq!(pax.mtime, Some(Time { seconds, nanos }));
        }

        #[test]
        fn attributes_come_back(name in "[a-z.=%]{1,20}", value in any::<Vec<u8>>()) {
            let mut body = Vec::new();
            write_xattr(&mut body, name.as_bytes(), &value);
            let mut pax = Pax::default();
            prop_assert_eq!(pax.apply(&body, &Limits::default()), Ok(()));
            let read: Vec<_> = pax.xattrs.into_iter().collect();
            prop_assert_eq!(read, vec![(name.into_bytes().into(), value.into())]);
        }

        #[test]
        fn any_body_parses_or_not(bytes in any::<Vec<u8>>()) {
            let mut pax = Pax::default();
            if pax.apply(&bytes, &Limits::default()).is_err() {
                prop_assert!(!bytes.is_empty());
            }
        }
    }
}
