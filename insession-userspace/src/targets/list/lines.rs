//! Bytes to lines, as they come: ended by LF, CR LF or CR, mixed as they like, of
//! any length, of which a bounded part is kept.

use super::super::entry::{self, Density, Entry};

/// Bytes of a line that are kept. A host name has 253, and a comment may follow it.
pub(super) const KEPT: usize = 4096;

/// Cuts what it is given into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// Bytes beyond those kept.
    cut: bool,
    /// Lines begun so far: the number of the present one, once it has begun.
    number: u64,
    /// Bytes of the present line were seen, if only its end.
    begun: bool,
    /// The last line was ended by CR: an LF that follows belongs to it.
    after_cr: bool,
}

/// A line, whole but for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::targets) struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// At most [`KEPT`] bytes of it.
    pub bytes: &'a [u8],
    /// Whether there were more.
    pub cut: bool,
}

impl Lines {
    /// Takes from `input`, to the end of a line at most; the line, if that came.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<Line<'_>> {
        if self.after_cr && !input.is_empty() {
            self.after_cr = false;
            *input = input.strip_prefix(b"\n").unwrap_or(input);
        }
        if input.is_empty() {
            return None;
        }
        self.begin();
        let end = input.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (bytes, rest) = input.split_at(end.unwrap_or(input.len()));
        let room = KEPT - self.line.len();
        self.line
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.cut |= bytes.len() > room;
        let (end, rest) = rest
            .split_first()
            .map_or((None, rest), |(end, rest)| (Some(*end), rest));
        *input = rest;
        self.after_cr = end == Some(b'\r');
        end?;
        self.begun = false;
        Some(self.line())
    }

    /// The last line, where nothing ended it. Then a new file may begin.
    pub(super) fn finish(&mut self) -> Option<Line<'_>> {
        std::mem::take(&mut self.begun).then_some(self.line())
    }

    /// Where it is: the number of the line that was begun last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            self.number += 1;
            self.cut = false;
            self.line.clear();
        }
    }

    fn line(&self) -> Line<'_> {
        let number = self.number;
        let bytes = self.line.as_slice();
        // Files that a Windows editor wrote begin so.
        let mark = if number == 1 {
            bytes.strip_prefix(b"\xef\xbb\xbf")
        } else {
            None
        };
        Line {
            number,
            bytes: mark.unwrap_or(bytes),
            cut: self.cut,
        }
    }
}

impl Line<'_> {
    /// What stands on it, without blanks around it and a comment behind it (`#` is
    /// in no target); `None`: nothing.
    ///
    /// # Errors
    /// `WHY; MEND`.
    pub(in crate::targets) fn text(&self) -> Result<Option<&str>, String> {
        let comment = self.bytes.iter().position(|byte| *byte == b'#');
        let bytes = self
            .bytes
            .get(..comment.unwrap_or(self.bytes.len()))
            .unwrap_or_default();
        if self.cut && comment.is_none() {
            return Err(format!("longer than {KEPT} bytes; no target is"));
        }
        if bytes.contains(&0) {
            return Err(
                "a zero byte; write the list in UTF-8, not UTF-16 (iconv -f UTF-16)".to_owned(),
            );
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err("not UTF-8; convert the list (iconv -t UTF-8)".to_owned());
        };
        // Lists are pasted together from others: a byte order mark is a blank.
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        Ok((!text.is_empty()).then_some(text))
    }

    /// The entry on it; `None`: blank, or nothing but a comment.
    ///
    /// A line has one field. What stands in a second (`10.0.0.1 80`, a column of
    /// CSV such as `1,www.example` of a popularity list) is not guessed at: tracing
    /// another target than the one meant is worse than none.
    ///
    /// # Errors
    /// `WHY; MEND`.
    pub(super) fn entry(&self, density: Density) -> Result<Option<Entry>, String> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        if text.contains(char::is_whitespace) {
            return Err(
                "more than one field; write one target a line, a port as host:port".to_owned(),
            );
        }
        if text.contains([',', ';']) {
            return Err(
                "a line of CSV is no target; give the column of targets alone (cut -d, -f2)"
                    .to_owned(),
            );
        }
        entry::parse(text, density).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Number, bytes, and whether it was cut.
    type Owned = (u64, Vec<u8>, bool);

    fn owned(line: Line<'_>) -> Owned {
        (line.number, line.bytes.to_vec(), line.cut)
    }

    /// The lines of `bytes`, given in pieces of `size`.
    fn lines(bytes: &[u8], size: usize) -> Vec<Owned> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                found.extend(lines.take(&mut piece).map(owned));
            }
        }
        found.extend(lines.finish().map(owned));
        found
    }

    #[test]
    fn all_line_ends_count_once() {
        let text = b"one\ntwo\r\nthree\rfour\n\nsix\r\rnine\n\rend";
        let expected = [
            "one", "two", "three", "four", "", "six", "", "nine", "", "end",
        ];
        for size in 1..=text.len() {
            let found = lines(text, size);
            let texts: Vec<_> = found.iter().map(|(_, bytes, _)| bytes.as_slice()).collect();
            assert_eq!(texts, expected.map(str::as_bytes), "{size}");
            assert!(found.iter().map(|line| line.0).eq(1..=10), "{size}");
        }
        assert_eq!(lines(b"", 1), []);
        assert_eq!(lines(b"\r\n", 1), [(1, vec![], false)]);
        assert_eq!(lines(b"end\r", 1).len(), 1);
    }

    #[test]
    fn what_stands_on_a_line() {
        let text = |bytes: &[u8]| {
            let line = Line {
                number: 1,
                bytes,
                cut: false,
            };
            line.text().map(|text| text.map(str::to_owned))
        };
        for (bytes, expected) in [
            (&b" \t www.example \t"[..], Some("www.example")),
            (b"www.example# a comment", Some("www.example")),
            (b"www.example\t# caf\xe9 \0", Some("www.example")),
            (b"  # nothing else", None),
            (b"#", None),
            (b" \t\x0b\x0c", None),
            (
                "\u{a0}www.example\u{3000}\u{feff}".as_bytes(),
                Some("www.example"),
            ),
        ] {
            assert_eq!(text(bytes), Ok(expected.map(str::to_owned)), "{bytes:?}");
        }
        for (bytes, reason) in [(&b"\xff"[..], "not UTF-8"), (b"a\0b", "a zero byte")] {
            assert!(text(bytes).unwrap_err().starts_with(reason), "{bytes:?}");
        }
        for (bytes, reason) in [
            ("10.0.0.1 80", "more than one field"),
            ("1,www.example", "a line of CSV"),
            ("www.example;80", "a line of CSV"),
        ] {
            let line = Line {
                number: 1,
                bytes: bytes.as_bytes(),
                cut: false,
            };
            let error = line.entry(Density::default()).unwrap_err();
            assert!(error.starts_with(reason), "{bytes}: {error}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_said_to_be() {
        let long = [vec![b'a'; KEPT + 1], b"\nb\n".to_vec()].concat();
        for size in [1, 1000, KEPT, KEPT + 1, KEPT + 2, long.len()] {
            let found = lines(&long, size);
            assert_eq!(found[0], (1, vec![b'a'; KEPT], true), "{size}");
            assert_eq!(found[1], (2, b"b".to_vec(), false), "{size}");
        }
        assert!(!lines(&[b'a'; KEPT], 100)[0].2);
        let comment = [b"10.0.0.1 #", &[b'-'; 2 * KEPT][..]].concat();
        let found = &lines(&comment, 999)[0];
        let line = Line {
            number: 1,
            bytes: &found.1,
            cut: found.2,
        };
        assert_eq!(line.text(), Ok(Some("10.0.0.1")));
        let line = Line {
            bytes: &[b'a'; KEPT],
            ..line
        };
        assert!(line.text().unwrap_err().starts_with("longer than"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let found = lines(b"\xef\xbb\xbfone\n\xef\xbb\xbf#two\n", 2);
        assert_eq!(found[0].1, b"one");
        // Elsewhere it is a blank.
        let line = Line {
            number: 2,
            bytes: &found[1].1,
            cut: false,
        };
        assert_eq!(line.text(), Ok(None));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes: Vec<u8>, ends in "[ab\r\n]{0,40}", size in 1_usize..20) {
            for bytes in [&bytes[..], ends.as_bytes()] {
                prop_assert_eq!(lines(bytes, size), lines(bytes, usize::MAX));
            }
        }
    }
}
