//! Regions: which of them leads, and who is to lead in it. Pure policy, without clocks.

/// What a name of a region or a zone must be, for messages.
pub const NAME_RULE: &str = "expected 1 to 63 of a-z, 0-9 and -";

const NAME_LENGTH_MAX: usize = 63;

/// Whether a region or a zone may have this name. Azure's names of locations are of this kind.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_regions_are_short_and_plain() {
        for name in ["eastus", "westus2", "us-east-1", "1", &"a".repeat(63)] {
            assert!(is_name(name), "{name:?}");
        }
        for name in ["", "East US", "eastUS", "ost.us", "öst", &"a".repeat(64)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
