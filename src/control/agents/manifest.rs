//! What an agent is told of itself.

use bytes::Bytes;

use crate::config::control::{AgentSpec, Labels, ScriptSpec};
use crate::pb::agent::{Manifest, WorkspaceAgentScript};

/// The manifest of an agent.
pub(super) fn manifest(spec: &AgentSpec) -> Manifest {
    let Labels {
        username,
        workspace_name,
        agent_name,
        ..
    } = &spec.labels;
    let workspace = id_of(&[username, workspace_name]);
    let scripts = spec.scripts.iter().enumerate();
    Manifest {
        agent_id: id_of(&[username, workspace_name, agent_name]),
        agent_name: agent_name.clone(),
        owner_username: username.clone(),
        workspace_id: workspace,
        workspace_name: workspace_name.clone(),
        scripts: scripts
            .map(|(index, script)| script_of(&spec.labels, index, script))
            .collect(),
        ..Manifest::default()
    }
}

fn script_of(labels: &Labels, index: usize, script: &ScriptSpec) -> WorkspaceAgentScript {
    let given = |id: Option<[u8; 16]>| id.map(|id| Bytes::copy_from_slice(&id));
    let id = given(script.id).unwrap_or_else(|| {
        let index = index.to_string();
        id_of(&[
            &labels.username,
            &labels.workspace_name,
            &labels.agent_name,
            &index,
        ])
    });
    WorkspaceAgentScript {
        log_source_id: given(script.log_source_id).unwrap_or_else(|| id.clone()),
        log_path: script.log_path.clone(),
        script: script.script.clone(),
        cron: script.cron.clone(),
        run_on_start: script.run_on_start,
        run_on_stop: script.run_on_stop,
        start_blocks_login: script.start_blocks_login,
        // Far below the range of a protobuf duration: settings allow 30 days.
        timeout: script.timeout.and_then(|timeout| timeout.try_into().ok()),
        display_name: script.display_name.clone(),
        id,
    }
}

/// A UUID of version 8 (RFC 9562) that follows from names, so that it is the same after a restart: their FNV-1a hash
/// of 128 bits, each name followed by a byte that is in none of them.
fn id_of(names: &[&str]) -> Bytes {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
    let hash = bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    let id = hash & !VERSION & !VARIANT | 8 << 76 | 0b10 << 62;
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::Agents;
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn the_manifest_names_the_agent_and_its_scripts() {
        let decode = |spec: &AgentSpec| {
            let agents = Agents::new(std::slice::from_ref(spec));
            let agent = agents.find(&spec.token).unwrap();
            Manifest::decode(agent.manifest.clone()).unwrap()
        };
        let manifest = decode(&spec(1, "one"));
        assert_eq!(manifest.agent_name, "one");
        assert_eq!(manifest.owner_username, "alice");
        assert_eq!(manifest.workspace_name, "dev");
        assert_eq!(
            (manifest.agent_id[6] >> 4, manifest.agent_id[8] >> 6),
            (8, 2)
        );
        let script = &manifest.scripts[0];
        assert_eq!(
            (script.script.as_str(), script.run_on_start),
            ("true", true)
        );
        assert_eq!(script.id, script.log_source_id);
        assert_eq!(script.timeout.unwrap().nanos, 500_000_000);

        // The same after a restart, and different for each.
        assert_eq!(decode(&spec(9, "one")), manifest);
        let other = decode(&spec(1, "two"));
        assert_ne!(other.agent_id, manifest.agent_id);
        assert_eq!(other.workspace_id, manifest.workspace_id);
        assert_ne!(other.scripts[0].id, script.id);
        assert_eq!(script.id.len(), 16);
    }
}
