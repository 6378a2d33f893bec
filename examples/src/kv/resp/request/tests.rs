use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { args: 100, bulk: 1000, request: 5000 };

/// Everything that is in `bytes`, given to the parser in pieces of this size.
fn parse(bytes: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
    let (mut parser, mut buffer, mut found) = (Parser::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(request) = parser.next(&buffer, &LIMITS)? {
            let args = (0..parser.args()).map(|number| parser.arg(&buffer, number).to_vec());
            found.push(args.collect());
            buffer.drain(..request.length);
        }
    }
    Ok(found)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn encode(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
        for arg in request {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

#[test]
fn lines_are_split_into_words() {
    let split = |line: &str| parse(line.as_bytes(), 3).unwrap();
    assert_eq!(split("PING\r\n"), [words("PING")]);
    assert_eq!(split("  set  k   v \nGET k\r\n"), [words("set k v"), words("GET k")]);
    assert_eq!(split("\r\n"), [Vec::<Vec<u8>>::new()]);
    let quoted = split("set k \"a b\\n\\x41\\\"\" 'it\\'s'\r\n");
    assert_eq!(quoted[0][2..], [b"a b\nA\"".to_vec(), b"it's".to_vec()]);
    assert_eq!(parse(b"set k \"a\r\n", 99), Err(ProtocolError::Quotes));
    assert_eq!(parse(b"set k \"a\"b\r\n", 99), Err(ProtocolError::Quotes));
}

#[test]
fn nonsense_is_told_apart() {
    let error = |bytes: &[u8]| parse(bytes, 7).unwrap_err();
    assert_eq!(error(b"*1\r\n:5\r\n"), ProtocolError::NoBulk(b':'));
    assert_eq!(error(b"*x\r\n"), ProtocolError::Arguments);
    assert_eq!(error(b"*101\r\n"), ProtocolError::Arguments);
    assert_eq!(error(b"*99999999999\r\n"), ProtocolError::Arguments);
    assert_eq!(error(b"*1\r\n$-1\r\n"), ProtocolError::BulkLength);
    assert_eq!(error(b"*1\r\n$1001\r\n"), ProtocolError::BulkLength);
    assert_eq!(error(b"*1\r\n$1\r\nabc"), ProtocolError::Unterminated);
    assert_eq!(error(&vec![b'x'; LINE + 2]), ProtocolError::LongLine);
    let many = encode(&[vec![vec![b'x'; 999]; 6]]);
    assert_eq!(error(&many), ProtocolError::TooLong(5000));
    assert_eq!(parse(b"*-1\r\n*0\r\nPING\r\n", 99).unwrap().len(), 3);
}

#[test]
fn nothing_is_allocated_for_what_is_only_promised() {
    let limits = Limits { args: 1 << 20, bulk: 1 << 30, request: 1 << 30 };
    let mut parser = Parser::default();
    assert_eq!(parser.next(b"*1048576\r\n$1000000000\r\n", &limits), Ok(None));
    assert!(parser.args.capacity() < 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn requests_come_out_as_they_went_in_however_they_are_cut(
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 0..5),
        piece in 1..40_usize,
    ) {
        prop_assert_eq!(parse(&encode(&requests), piece).unwrap(), requests);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'9'],
            0..80),
        piece in 1..80_usize,
    ) {
        let whole = parse(&bytes, 1000);
        prop_assert_eq!(parse(&bytes, piece), whole);
    }
}
