/work/main/bench/bare-loop/target/release/deps/bare_loop-fdd8a39429f34648.d: src/main.rs

/work/main/bench/bare-loop/target/release/deps/bare_loop-fdd8a39429f34648: src/main.rs

src/main.rs:
