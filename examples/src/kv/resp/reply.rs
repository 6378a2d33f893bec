//! Replies: written as RESP3, and turned into RESP2 where a connection speaks that.

/// Appends `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// Appends a status: a line without control characters.
pub fn status(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text);
}

/// Appends an error: its code, a space, and what is wrong. What does not fit on a line is replaced.
pub fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text);
}

fn line(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    let fits = |byte: u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
    out.extend(text.bytes().map(fits));
    out.extend_from_slice(b"\r\n");
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    header(out, b':', number);
}

/// Appends a byte string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a text that people read, with RESP3's mark that it is one.
pub fn text(out: &mut Vec<u8>, text: &str) {
    header(out, b'=', text.len() as i64 + 4);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends "there is none".
pub fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"_\r\n");
}

/// Appends the beginning of an array of so many replies.
pub fn array(out: &mut Vec<u8>, length: usize) {
    header(out, b'*', length as i64);
}

/// Appends the beginning of a map of so many keys, each followed by its value.
pub fn map(out: &mut Vec<u8>, length: usize) {
    header(out, b'%', length as i64);
}

/// Appends the beginning of a set of so many replies.
pub fn set(out: &mut Vec<u8>, length: usize) {
    header(out, b'~', length as i64);
}

fn header(out: &mut Vec<u8>, kind: u8, number: i64) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a reply, or several, as RESP2: maps become arrays of twice the length, sets become
/// arrays, "none" the null of byte strings, text a byte string.
pub fn to_resp2(mut reply: &[u8], out: &mut Vec<u8>) {
    while let Some((first, _)) = reply.split_first() {
        let Some(line) = line_end(reply, 0) else { break };
        let number = || parse_number(&reply[1..line - 2]).unwrap_or(0);
        let end = match first {
            b'$' | b'=' => (line + number().max(0) as usize + 2).min(reply.len()),
            _ => line,
        };
        match first {
            b'_' => out.extend_from_slice(b"$-1\r\n"),
            b'%' => array(out, 2 * number() as usize),
            b'~' => array(out, number() as usize),
            b'=' => bulk(out, &reply[(line + 4).min(end - 2)..end - 2]),
            _ => out.extend_from_slice(&reply[..end]),
        }
        reply = &reply[end..];
    }
}

/// Whether a reply is the same in both versions, by its first byte.
#[must_use]
pub fn is_plain(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'+' | b'-' | b':' | b'$'))
}

/// Where the line that begins at `from` ends, with its CRLF.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let newline = memchr::memchr(b'\n', &bytes[from..])?;
    Some(from + newline + 1).filter(|end| *end >= from + 3)
}

fn parse_number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// No reply has more bytes, nor more parts.
const LONGEST: i64 = 1 << 40;

/// Finds where replies end in what another server sends, without looking into them.
#[derive(Debug, Default)]
pub struct Framing {
    /// Behind what was understood of the reply that is under way.
    at: usize,
    /// Replies that are missing to complete it; zero between two replies.
    missing: u64,
}

/// What is there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer does not speak RESP3")]
pub struct NoReply;

impl Framing {
    /// The length of the reply that `bytes` begin with; `None` while it is not complete. Call it with
    /// more bytes behind the same ones then.
    ///
    /// # Errors
    /// It is no reply.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<usize>, NoReply> {
        if self.at == 0 {
            self.missing = 1;
        }
        while self.missing > 0 {
            let Some(line) = line_end(&bytes[self.at..], 0).map(|end| self.at + end) else {
                return Ok(None);
            };
            let number = parse_number(&bytes[self.at + 1..line - 2]);
            let counted = || number.filter(|number| (0..=LONGEST).contains(number)).ok_or(NoReply);
            let mut end = line;
            match bytes[self.at] {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
                b'$' | b'=' => end = line + counted()? as usize + 2,
                b'*' | b'~' | b'>' => self.missing += counted()? as u64,
                b'%' => self.missing += 2 * counted()? as u64,
                _ => return Err(NoReply),
            }
            if end > bytes.len() {
                return Ok(None);
            }
            self.at = end;
            self.missing -= 1;
        }
        Ok(Some(std::mem::take(&mut self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Vec<u8> {
        let mut out = Vec::new();
        map(&mut out, 2);
        bulk(&mut out, b"a\r\n_\r\n");
        null(&mut out);
        text(&mut out, "text");
        array(&mut out, 2);
        integer(&mut out, -5);
        set(&mut out, 1);
        status(&mut out, "fine");
        out
    }

    #[test]
    fn resp2_has_no_maps_and_one_null() {
        let mut out = Vec::new();
        to_resp2(&everything(), &mut out);
        let expected =
            "*4\r\n$6\r\na\r\n_\r\n\r\n$-1\r\n$4\r\ntext\r\n*2\r\n:-5\r\n*1\r\n+fine\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn errors_stay_on_their_line() {
        let mut out = Vec::new();
        error(&mut out, "ERR a\r\nb");
        assert_eq!(out, b"-ERR a  b\r\n");
    }

    #[test]
    fn replies_end_where_they_end_however_they_arrive() {
        let reply = everything();
        let both = [&reply[..], b"+OK\r\n"].concat();
        let mut framing = Framing::default();
        for length in 0..reply.len() {
            assert_eq!(framing.next(&both[..length]), Ok(None), "{length}");
        }
        assert_eq!(framing.next(&both), Ok(Some(reply.len())));
        assert_eq!(framing.next(&both[reply.len()..]), Ok(Some(5)));
        assert_eq!(Framing::default().next(b"GET /\r\n"), Err(NoReply));
        assert_eq!(Framing::default().next(b"$x\r\n"), Err(NoReply));
    }
}
