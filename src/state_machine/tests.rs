//! The state machine as its users see it.
