//! Three members under faults, from many seeds.

use super::{machine::Broken, world::run};

#[test]
fn one() {
    let seed = std::env::var("ORRERY_SIM_SEED").map_or(1, |seed| seed.parse().unwrap());
    let begin = std::time::Instant::now();
    let result = run(seed, Broken::Not);
    let trace = match &result {
        Ok(report) => &report.trace,
        Err(finding) => &finding.trace,
    };
    for line in trace {
        println!("{line}");
    }
    println!("{:?} {:?}", result.as_ref().map(|it| it.coverage), begin.elapsed());
    result.unwrap();
}
