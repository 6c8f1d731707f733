//! `/api/v1/jobs`: submitting jobs, looking at them, ending them, and what they say and cost.
//!
//! An application's key sees and submits its own project's jobs. What a job wrote is for its project and the owner, not for auditors.
//! Submitting again with the same `Idempotency-Key` gives the same jobs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use polder_core::ids::{AwardId, ProjectId};
use polder_core::job::home::{Answer, Event};
use polder_core::job::spec::JobFile;
use polder_core::job::{JobId, Nonce};
use polder_core::ledger::books::{Account, Entry, EntryId};
use polder_core::placement::Outcome;
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::question;
use super::{Caller, OperatorRole, Problem};
use crate::clock::random;
use crate::config::HomeJobsConfig;
use crate::executor::Part;
use crate::home::Home;
use crate::jobs::{self, Answered, JobsError, SubmissionError};
use crate::metrics;
use crate::node::Node;
use crate::refusal;

/// Largest submission that is read, in bytes.
const SUBMISSION_BYTES_MAX: usize = 4 << 20;
/// Longest key of a submission, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Jobs in one page, where the caller does not say, and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 1_000;
/// How long a call for output waits for more, at most; and between two looks.
const WAIT_MAX_S: u64 = 30;
const STEP: Duration = Duration::from_millis(100);

impl Caller {
    /// May it submit and end jobs, and read what they say? The one project that it may do so for; none for all.
    fn works(&self) -> Result<Option<&ProjectId>, Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner) => Ok(None),
            Self::Application(project) => Ok(Some(project)),
            Self::Role(_) => Err(Problem::new(StatusCode::FORBIDDEN, "jobs are their project's and the owner's")),
        }
    }

    /// May it see jobs? The one project whose it sees; none for all.
    fn sees_jobs(&self) -> Result<Option<&ProjectId>, Problem> {
        self.reads()?;
        match self {
            Self::Application(project) => Ok(Some(project)),
            Self::Socket | Self::Role(_) => Ok(None),
        }
    }
}

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<SubmissionError> for Problem {
    fn from(error: SubmissionError) -> Self {
        match &error {
            SubmissionError::Random(_) => Self::internal(error),
            _ => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

fn home(node: &Node) -> Result<(&Arc<Home>, &HomeJobsConfig), Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "this node is no home: ask a tenant's node for its jobs");
    let config = node.config.home.as_ref().map(|home| &home.jobs);
    node.home.as_ref().zip(config).ok_or_else(none)
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("no job `{id}` is known to this node"))
}

fn job_id(id: Result<Path<String>, PathRejection>) -> Result<JobId, Problem> {
    let Path(id) = id?;
    JobId::parse(&id).ok_or_else(|| unknown(&id))
}

/// `POST /api/v1/jobs`: submits the jobs of a file, given as JSON.
pub async fn submit(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let only = caller.works()?.cloned();
    let (home, config) = home(&node)?;
    let refused = |problem: Problem| {
        metrics::job_refused("submission");
        problem
    };
    let bad = |detail: String| refused(Problem::new(StatusCode::BAD_REQUEST, detail));
    let object = crate::gateway::read_object(&headers, body, SUBMISSION_BYTES_MAX).await;
    let object = object.map_err(|error| bad(error.message()))?;
    let file: JobFile = serde_json::from_value(Value::Object(object)).map_err(|e| bad(e.to_string()))?;
    let key = key_of(&headers).map_err(refused)?;
    let made = jobs::expand(home, &file, only.as_ref(), key, &config.award).map_err(|e| refused(e.into()))?;
    let (mut submission, names) = (made.submission, made.names);
    let answered = node.jobs.call(move |call| {
        submission.call = call;
        Event::Submit(Box::new(submission))
    });
    submitted(answered.await?, &names, config)
}

fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        let drawn: [u8; 16] = random().map_err(Problem::internal)?;
        return Ok(hex::encode(drawn));
    };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= KEY_BYTES_MAX);
    let odd = || Problem::new(StatusCode::BAD_REQUEST, "`Idempotency-Key` is 1 to 128 visible ASCII characters");
    text.map(str::to_owned).ok_or_else(odd)
}

fn submitted(answered: Answered, names: &[(String, u32)], config: &HomeJobsConfig) -> Result<Response, Problem> {
    let problem = |status, detail: String| Err(Problem::new(status, detail));
    match answered.answer {
        Answer::Accepted(ids) => {
            let job = |(id, (name, index)): (&JobId, &(String, u32))| json!({"id": id, "name": name, "index": index});
            let jobs: Vec<Value> = ids.iter().zip(names).map(job).collect();
            Ok((StatusCode::CREATED, Json(json!({"jobs": jobs}))).into_response())
        }
        Answer::Refused(place) => Err(refused(answered, place, names)),
        Answer::Conflict => problem(
            StatusCode::CONFLICT,
            "this `Idempotency-Key` was used for other jobs: use another, or send the very same again".to_owned(),
        ),
        Answer::NoBudget(lacking) => problem(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "the project lacks {lacking} micro-euro of the award `{}` for these jobs: `polder usage grant` gives it more",
                config.award
            ),
        ),
        Answer::Full => problem(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{} jobs wait or run, and no more are taken: try later", config.settings.jobs_max),
        ),
        other => Err(Problem::internal(format!("{other:?}"))),
    }
}

/// No factory may run a job: with every reason, and the decision that says so in the log.
fn refused(answered: Answered, place: usize, names: &[(String, u32)]) -> Problem {
    metrics::job_refused("policy");
    let name = names.get(place).map_or("", |(name, _)| name);
    let Some(record) = answered.refused else {
        return Problem::new(StatusCode::FORBIDDEN, format!("no factory may run the job `{name}`"));
    };
    let statement = &record.statement;
    let detail = format!("job `{name}`: {}", refusal::sentence(statement));
    let status = match statement.outcome {
        Outcome::NoCapacity => StatusCode::TOO_MANY_REQUESTS,
        Outcome::Refused | Outcome::Placed => StatusCode::FORBIDDEN,
    };
    let why = json!({
        "decision": statement.id, "outcome": statement.outcome, "job": name,
        "refusals": refusal::refusals(&record.verdicts), "nearest": refusal::nearest(&statement.nearest),
    });
    Problem::new(status, detail).with("refused", why)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    before: Option<u64>,
}

/// `GET /api/v1/jobs`: jobs, newest first, a page at a time; `next` is the `before` of the next page.
pub async fn list(
    State(node): State<Arc<Node>>,
    caller: Caller,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let project = caller.sees_jobs()?.cloned();
    home(&node)?;
    let odd = |_| Problem::new(StatusCode::BAD_REQUEST, "`limit` and `before` are whole numbers");
    let Query(Page { limit, before }) = page.map_err(odd)?;
    let (limit, before) = (limit.unwrap_or(PAGE).clamp(1, PAGE_MAX), before.unwrap_or(u64::MAX));
    let look = move |machines: jobs::Machines<'_>| jobs::listed(&machines, project.as_ref(), before, limit);
    Ok(Json(node.jobs.look(look).await?))
}

/// A job as it stands, where the caller may see it.
async fn seen(node: &Node, project: Option<ProjectId>, id: JobId) -> Result<Value, Problem> {
    home(node)?;
    let shown = node.jobs.look(move |machines| jobs::shown(&machines, project.as_ref(), id)).await?;
    shown.ok_or_else(|| unknown(&id.to_string()))
}

/// `GET /api/v1/jobs/{id}`: one job with its receipts.
pub async fn show(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let project = caller.sees_jobs()?.cloned();
    Ok(Json(seen(&node, project, job_id(id)?).await?))
}

/// `GET /api/v1/jobs/{id}/explain`: why it stands where it stands, and what each factory says to it now.
pub async fn explain(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let project = caller.sees_jobs()?.cloned();
    let id = job_id(id)?;
    let shown = seen(&node, project, id).await?;
    let request = node.jobs.look(move |machines| Some(machines.home?.job(id)?.order.request.clone())).await?;
    let (request, hindrances) = (request.ok_or_else(|| unknown(&id.to_string()))?, node.jobs.hindrances(id).await?);
    let decision = home(&node)?.0.decide_job(&request, &Default::default());
    Ok(Json(jobs::explained(shown, &decision, &hindrances)))
}

/// `POST /api/v1/jobs/{id}/cancel`: takes a job back.
pub async fn cancel(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let project = caller.works()?.cloned();
    let job = job_id(id)?;
    seen(&node, project.clone(), job).await?;
    let answered = node.jobs.call(move |call| Event::Cancel { call, job }).await?;
    done(&node, project, job, answered).await
}

/// `POST /api/v1/jobs/{id}/rerun`: lets a job run again that is held for a person.
pub async fn rerun(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let project = caller.works()?.cloned();
    let job = job_id(id)?;
    seen(&node, project.clone(), job).await?;
    let answered = node.jobs.call(move |call| Event::Rerun { call, job }).await?;
    done(&node, project, job, answered).await
}

async fn done(node: &Node, project: Option<ProjectId>, job: JobId, answered: Answered) -> Result<Json<Value>, Problem> {
    let ending = match answered.answer {
        Answer::Done => false,
        Answer::Ending => true,
        Answer::Unknown => {
            let detail = format!("`{job}` is not held: there is nothing for a person to decide about it");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Answer::Books(error) => return Err(Problem::new(StatusCode::CONFLICT, error.to_string())),
        other => return Err(Problem::internal(format!("{other:?}"))),
    };
    let mut shown = seen(node, project, job).await?;
    shown["ending"] = ending.into();
    Ok(Json(shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    epoch: u64,
    microeur: u64,
}

/// `POST /api/v1/jobs/{id}/resolve`: what a person finds right for a disputed receipt.
pub async fn resolve(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let job = job_id(id)?;
    seen(&node, None, job).await?;
    let Resolve { epoch, microeur } = question(&headers, body).await?;
    let answered = node.jobs.call(move |call| Event::Resolve { call, job, epoch, microeur }).await?;
    if answered.answer == Answer::Unknown {
        let detail = format!("epoch {epoch} of `{job}` has no receipt in dispute");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    done(&node, None, job, answered).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    epoch: Option<u64>,
    #[serde(default)]
    wait_s: u64,
}

/// `GET /api/v1/jobs/{id}/logs/{part}`: what a job's run says, from a byte on; `part` is `out` or `err`. Headers say where the next
/// piece begins, which run it is of, and whether that one has ended.
pub async fn logs(
    State(node): State<Arc<Node>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    place: Result<Query<Place>, QueryRejection>,
) -> Result<Response, Problem> {
    let project = caller.works()?.cloned();
    let Path((id, part)) = path?;
    let nothing = || Problem::new(StatusCode::NOT_FOUND, "a run says something on `out` and on `err`");
    let part = Part::of(&part).ok_or_else(nothing)?;
    let job = JobId::parse(&id).ok_or_else(|| unknown(&id))?;
    let odd = |_| Problem::new(StatusCode::BAD_REQUEST, "`from`, `epoch` and `wait_s` are whole numbers");
    let Query(Place { from, epoch, wait_s }) = place.map_err(odd)?;
    let over = tokio::time::Instant::now() + Duration::from_secs(wait_s.min(WAIT_MAX_S));
    loop {
        seen(&node, project.clone(), job).await?;
        let found = jobs::read_log(&node.jobs, node.peers(), job, epoch, part, from).await;
        let found = found.map_err(|error| Problem::new(StatusCode::BAD_GATEWAY, error))?;
        let waits = found.piece.bytes.is_empty() && !found.over && tokio::time::Instant::now() < over;
        if !waits || (epoch.is_some() && found.piece.ended) {
            let number = |number: u64| number.to_string();
            let heads = [
                ("polder-next", number(found.piece.next)),
                ("polder-epoch", number(found.epoch)),
                ("polder-ended", found.piece.ended.to_string()),
                ("polder-over", found.over.to_string()),
            ];
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            return Ok((kind, heads, found.piece.bytes).into_response());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// `GET /api/v1/job-usage`: what was charged for jobs, and what every account holds.
pub async fn usage(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_money()?;
    home(&node)?;
    Ok(Json(node.jobs.look(|machines| jobs::usage(&machines)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    project: ProjectId,
    microeur: u64,
    #[serde(default)]
    award: Option<AwardId>,
}

/// `POST /api/v1/job-grants`: gives a project money for jobs, from outside into an award that this home keeps.
pub async fn grant(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let (home, config) = home(&node)?;
    let Grant { project, microeur, award } = question(&headers, body).await?;
    if home.labels_of(&project).is_none() {
        let detail = format!("`{project}` is not a project of this tenant");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let award = award.unwrap_or_else(|| config.award.clone());
    let id = EntryId::Moved(Nonce(random().map_err(Problem::internal)?));
    let account = Account::Project(home.tenant.clone(), project.clone());
    let entry = Entry::transfer(id, award.clone(), Account::Outside, account.clone(), microeur);
    let entry = entry.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?;
    let answered = node.jobs.call(move |call| Event::Move { call, entry }).await?;
    if let Answer::Books(error) = answered.answer {
        return Err(Problem::new(StatusCode::CONFLICT, error.to_string()));
    }
    let named = award.clone();
    let held = node.jobs.look(move |machines| machines.home.map(|home| home.books().balance(&named, &account))).await?;
    Ok(Json(json!({"award": award, "project": project, "microeur": held})))
}
