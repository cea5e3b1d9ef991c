//! The name of a span, by which others add to its trace.

/// A span of a trace that is recorded, as others than its maker know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    /// The span is another process's.
    pub is_remote: bool,
}

impl TraceContext {
    /// Length of its encoding.
    pub const BYTES: usize = 24;

    /// As members send it to each other: the ids of trace and span.
    pub fn encode(&self) -> [u8; TraceContext::BYTES] {
        let mut out = [0; TraceContext::BYTES];
        out[..16].copy_from_slice(&self.trace);
        out[16..].copy_from_slice(&self.span);
        out
    }

    /// What another process has encoded; `None` for what names no span.
    pub fn decode(bytes: &[u8]) -> Option<TraceContext> {
        let (trace, span) = bytes.split_first_chunk()?;
        let span = span.try_into().ok()?;
        let context = TraceContext { trace: *trace, span, is_remote: true };
        (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// The same span, which is in this process after all.
    pub fn as_local(self) -> TraceContext {
        TraceContext { is_remote: false, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_encoding() {
        let context = TraceContext { trace: [7; 16], span: [8; 8], is_remote: true };
        assert_eq!(TraceContext::decode(&context.encode()), Some(context));
        assert_eq!(TraceContext::decode(&context.as_local().encode()), Some(context));
    }

    #[test]
    fn what_names_no_span_is_no_context() {
        #[track_caller]
        fn check(bytes: &[u8]) {
            assert_eq!(TraceContext::decode(bytes), None);
        }
        check(&[]);
        check(&[1; 23]);
        check(&[1; 25]);
        check(&[0; 24]);
        check(&[[0; 16].as_slice(), &[1; 8]].concat());
        check(&[[1; 16].as_slice(), &[0; 8]].concat());
    }
}
