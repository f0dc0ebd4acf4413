# Recipes for people. The commands themselves stand in .ci/run, which needs no `just`.

# What a change must pass, short of its tests.
check:
    .ci/run fmt clippy doc deny

# The tests, against Go peers.
test:
    .ci/run test

# Everything, as CI runs it.
ci:
    .ci/run

# Generate src/pb from proto/.
gen:
    WEIR_REGENERATE=1 cargo test --locked --test generated

# Build the Go peers of the tests.
interop:
    .ci/run interop

# Fuzz every target, sharing this many seconds.
fuzz SECONDS="60":
    FUZZ_SECONDS={{SECONDS}} .ci/run fuzz

# Measure, against the Go peers.
bench: interop
    cargo bench --locked
