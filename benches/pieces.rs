//! The pure parts that every request goes through: nanoseconds of one call, single thread.
//!
//!     cargo bench --features internals --bench pieces
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, mut piece) in gateward::internals::pieces() {
        criterion.bench_function(&name, |bencher| bencher.iter(&mut piece));
    }
    criterion.final_summary();
}
