/work/main/bench/bare-loop/target/release/bare-loop: /work/main/bench/bare-loop/src/main.rs
