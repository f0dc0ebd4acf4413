//! The committed protobuf code is what its sources generate.
//!
//! A plain build needs neither protoc nor a build script: `src/pb` is committed, and this test
//! generates it again in memory. With `WEIR_REGENERATE=1` it writes the files instead of comparing.

use std::collections::BTreeMap;
use std::path::Path;

use prost_build::Module;

/// Set to `1` to write the generated files instead of comparing them.
const REGENERATE: &str = "WEIR_REGENERATE";

/// The sources, below `proto/`.
const SOURCES: [&str; 2] = ["agent.proto", "boundary.proto"];

#[test]
fn the_protobuf_code_is_current() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/pb");
    let generated = generate(&root.join("proto"))?;
    assert_eq!(
        generated.len(),
        SOURCES.len(),
        "one file per source, none for the well-known types"
    );

    if std::env::var_os(REGENERATE).is_some_and(|value| value == "1") {
        for (name, code) in &generated {
            std::fs::write(committed.join(name), code)?;
        }
        return Ok(());
    }
    let stale: Vec<_> = generated
        .iter()
        .filter(|(name, code)| {
            !std::fs::read_to_string(committed.join(name)).is_ok_and(|found| found == **code)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        stale.is_empty(),
        "src/pb/{stale:?} differ from proto/: run `{REGENERATE}=1 cargo test --test generated`"
    );
    Ok(())
}

/// The code of every package, by file name.
fn generate(sources: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let requests = protox::compile(SOURCES, [sources])?
        .file
        .into_iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = prost_build::Config::new()
        // Payloads are sliced out of what was received, not copied.
        .bytes(["."])
        // Maps in the order of their keys: equal messages encode to equal bytes.
        .btree_map(["."])
        .generate(requests)?;
    Ok(modules
        .into_iter()
        .map(|(module, code)| (module.to_file_name_or("pb"), code))
        .collect())
}
