//! Redis's patterns: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant literally.

/// Whether all of `text` matches. Takes time in proportion to the product of the lengths, at most:
/// a `*` that was passed is tried again only until the next one is met.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and the text that was tried there.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if let Some(next) = one(&pattern[p..], text[t]) {
            p += next;
            t += 1;
            continue;
        }
        let Some((star, tried)) = retry else { return false };
        retry = Some((star, tried + 1));
        (p, t) = (star, tried + 1);
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

/// How much of the pattern a byte takes, if it matches what the pattern begins with.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => class(set, byte).map(|length| length + 1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// As [`one`], behind a `[`. A set without an end goes to the end of the pattern.
fn class(set: &[u8], byte: u8) -> Option<usize> {
    let negated = set.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &set[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] if *to != b']' => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for text in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_those_of_redis() {
        check("*", &["", "a", "abc"], &[]);
        check("h?llo", &["hello", "hallo"], &["hllo", "heello"]);
        check("h*llo", &["hllo", "heeeello"], &["hell"]);
        check("h[ae]llo", &["hello", "hallo"], &["hillo", "h[ae]llo"]);
        check("h[^e]llo", &["hallo", "hbllo"], &["hello"]);
        check("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        check("\\*", &["*"], &["a", ""]);
        check("a*b*c", &["abc", "aXbYc", "abbc"], &["ab", "acb"]);
        check("", &[""], &["a"]);
        check("[", &[], &["a", ""]);
        check("[^]a]", &[], &[""]);
        check("user:*:name", &["user:1:name"], &["user:1:names"]);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let text = vec![b'a'; 2000];
        let pattern = b"a*".repeat(200);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
