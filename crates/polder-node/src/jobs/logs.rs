//! What a job's run says, wherever it runs.
//!
//! It is asked for at the factory each time, and kept nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use polder_core::ids::NodeId;
use polder_core::job::row::v1::State;
use polder_core::job::{Epoch, JobId, RunId};

use super::{Jobs, channel};
use crate::executor::{Part, Piece};
use crate::peers::Remote;

/// A piece of what a run says.
#[derive(Debug, Default)]
pub struct LogPiece {
    /// The piece.
    pub piece: Piece,
    /// Which run's.
    pub epoch: Epoch,
    /// Whether the job is over and nothing more comes from any run.
    pub over: bool,
}

/// A piece of what the run of an epoch says; of the newest lease's where none is named. Before the first lease there is nothing.
pub async fn read_log(
    jobs: &Jobs,
    reached: &BTreeMap<NodeId, Arc<Remote>>,
    job: JobId,
    epoch: Option<Epoch>,
    part: Part,
    from: u64,
) -> Result<LogPiece, String> {
    let place = jobs.look(move |machines| {
        let row = machines.home?.job(job)?;
        let epoch = epoch.or_else(|| row.leased.as_ref().map(|lease| lease.epoch));
        let factory = epoch.and_then(|epoch| Some((epoch, row.leases.get(&epoch)?.clone())));
        Some((machines.home?.me().clone(), factory, matches!(row.state, State::Over(_))))
    });
    let Some((home, factory, over)) = place.await.map_err(|error| error.to_string())? else {
        return Err("the job is not known".to_owned());
    };
    let Some((epoch, factory)) = factory else { return Ok(LogPiece { over, ..LogPiece::default() }) };
    let run = RunId { home: home.clone(), job, epoch };
    let piece = if factory == home {
        jobs.piece(&run, part, from).await.map_err(|_| format!("nothing is kept of what `{job}` said in epoch {epoch}"))
    } else if let Some(remote) = reached.get(&factory) {
        channel::fetch_piece(remote, &run, part, from).await.map_err(|error| error.to_string())
    } else {
        Err(format!("`{factory}` is no member any more"))
    };
    // A run that was granted a moment ago has no folder yet.
    let piece = match piece {
        Err(_) if !over => Piece { next: from, ..Piece::default() },
        piece => piece?,
    };
    Ok(LogPiece { over: over && piece.ended, piece, epoch })
}
