//! Runs real members in networks, on disks and under clocks of their own while everything breaks,
//! and checks what their clients saw. `README.md` beside this crate is the manual.

pub mod check;
pub mod figures;
pub mod history;
pub mod matrix;
pub mod plot;
pub mod report;
#[cfg(test)]
mod wellformed;
