//! A node whose state was restored from a backup: before it signs anything, its witnesses say how far its log had come.
//!
//! A log that signed again what it had signed otherwise before would be a second history, whoever meant well. So every witness is asked
//! for the checkpoints that it has cosigned of this log, and the log is opened only where it holds all of them. A witness that does not
//! answer is waited for by not starting. Which witnesses there are is the configuration's and the members' to say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_core::keys::history::KeyHistory;
use polder_core::keys::{NodeCard, Signed};
use polder_core::membership::Standing;
use polder_core::note::{Checkpoint, Note, VerifierKey, origin};

use super::NodeError;
use crate::backup::{MARK, Mark};
use crate::clock::now_ms;
use crate::config::{Config, WITNESSES_MAX};
use crate::key_care::KeyCare;
use crate::log::alarms::Told;
use crate::log::{Archive, Log, Signing};
use crate::peers::Remote;
use crate::store::{MemberRow, Store};

/// How long a witness has for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Opens the log, of a restored state only where it holds all that its witnesses have seen.
pub(super) async fn open_log(
    config: &Config,
    store: &Store,
    care: &KeyCare,
    (archive, signing): (Archive, Signing),
) -> Result<Log, NodeError> {
    let told = told_by_witnesses(config, store, &care.channel_key()?, &signing.ever).await?;
    let log = Log::open_in(Some(archive), store.clone(), signing, &told).await?;
    clear(&config.state);
    log.count(config.home.as_ref().map(|home| &home.tenant));
    Ok(log)
}

/// What the witnesses of a restored node have cosigned of its log; nothing where the state was not restored.
async fn told_by_witnesses(
    config: &Config,
    store: &Store,
    own: &SigningKey,
    keys: &[VerifyingKey],
) -> Result<Vec<String>, NodeError> {
    let Some(mark) = mark(&config.state)? else { return Ok(Vec::new()) };
    let system = |message: String| NodeError::System(message);
    let mut told = Vec::new();
    let witnesses = witnesses(config, store, own).await?;
    for (node, remote) in &witnesses {
        if mark.without.iter().any(|name| name == node.as_str()) {
            tracing::warn!(witness = %node, "this witness is not asked what it has seen: its operator says that it is gone");
            continue;
        }
        let asked = tokio::time::timeout(ANSWER_MAX, remote.fetch::<Told>("/peer/v1/alarms")).await;
        let said: Told = match asked {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return Err(system(unheard(node, &error.to_string()))),
            Err(_) => return Err(system(unheard(node, "no answer in time"))),
        };
        let name = origin(&config.node);
        let own_keys: Vec<VerifierKey> = keys.iter().map(|key| VerifierKey::of_log(&config.node, *key)).collect();
        let is_own = |text: &String| {
            let note = Note::parse(text).ok();
            let of_log = note.as_ref().and_then(|note| Checkpoint::parse(&note.text).ok());
            let signed = |note: &Note| own_keys.iter().any(|key| matches!(note.signed_by(key), Ok(Some(_))));
            of_log.is_some_and(|checkpoint| checkpoint.origin == name) && note.as_ref().is_some_and(signed)
        };
        told.extend(said.seen.into_iter().filter(is_own));
    }
    if witnesses.is_empty() {
        tracing::warn!("the state was restored, and no witness knows how far this log had come");
    }
    Ok(told)
}

fn unheard(node: &NodeId, reason: &str) -> String {
    format!(
        "the state was restored, and the witness `{node}` does not say how far this log had come: {reason}: start the node again \
         when it answers; where it is gone for good, restore with `--without-witness {node}`"
    )
}

/// The mark of a restored state.
fn mark(state: &Path) -> Result<Option<Mark>, NodeError> {
    let path = state.join(MARK);
    let failed = |reason: String| NodeError::System(format!("`{}`: {reason}", path.display()));
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The witnesses have been asked, and the log holds all that they have seen.
fn clear(state: &Path) {
    let path = state.join(MARK);
    if path.exists() {
        tracing::warn!("the restored log holds all that its witnesses have seen of it");
        drop(std::fs::remove_file(path));
    }
}

/// Whoever may have cosigned this log: of the configuration where it names some, else every factory that is a member.
async fn witnesses(config: &Config, store: &Store, own: &SigningKey) -> Result<Vec<(NodeId, Arc<Remote>)>, NodeError> {
    let mut members: Vec<(NodeCard, Option<std::net::SocketAddr>)> =
        config.members.iter().filter(|one| one.factory).map(|one| (one.card.clone(), one.address)).collect();
    for row in store.members().await? {
        let MemberRow::Peer(peer) = row else { continue };
        let known = members.iter().any(|(card, _)| card.identity == peer.said.card.identity);
        if peer.standing == Standing::Member && peer.said.factory && !known {
            let address = peer.said.address.as_ref().and_then(|address| address.parse().ok());
            members.push((peer.said.card, address));
        }
    }
    members.sort_by(|(one, _), (other, _)| one.node.cmp(&other.node));
    let mut found = Vec::new();
    for (card, address) in members {
        let named = config.log.witnesses.as_ref().is_none_or(|named| named.contains(&card.node));
        if !named || card.node == config.node || found.len() >= WITNESSES_MAX {
            continue;
        }
        let kept = store.key_history(card.node.as_str()).await?;
        let history = kept.and_then(|bytes| serde_json::from_slice::<Signed<KeyHistory>>(&bytes).ok());
        let of_card = || card.keys.get(&Role::Transport).map(|held| held.key).into_iter().collect();
        let keys = history.map_or_else(of_card, |history| history.value.in_force(Role::Transport, now_ms()));
        found.push((card.node.clone(), Arc::new(Remote::new(card.node, address, &keys, own)?)));
    }
    Ok(found)
}
