//! Reviews: whose token is this, and may I do that?

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::State;

/// A service account's token, bound to a pod or not.
#[derive(Debug, Clone)]
pub struct Token {
    /// The namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub account: String,
    /// The audiences that it is made for.
    pub audiences: Vec<String>,
    /// The name and uid of the pod that it is bound to.
    pub pod: Option<(String, String)>,
}

impl Token {
    /// A token of a service account for one audience, bound to nothing.
    pub fn new(namespace: &str, account: &str, audience: &str) -> Self {
        Self {
            namespace: namespace.into(),
            account: account.into(),
            audiences: vec![audience.into()],
            pod: None,
        }
    }

    /// The same, bound to a pod.
    #[must_use]
    pub fn bound_to(self, pod: &str, uid: &str) -> Self {
        Self { pod: Some((pod.into(), uid.into())), ..self }
    }
}

impl State {
    /// Keeps a token, and gives its text: a JWT with the claims of a real one, as far as anybody
    /// reads them, and a signature that is none.
    pub(super) fn new_token(&self, token: Token) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let claims = json!({
            "aud": token.audiences, "exp": 4_000_000_000_u64, "jti": tokens.len().to_string(),
            "sub": format!("system:serviceaccount:{}:{}", token.namespace, token.account),
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}.bm9uZQ", part(json!({"alg": "RS256"})), part(claims));
        tokens.insert(text.clone(), token);
        text
    }
}

/// Answers a TokenReview, or a review of somebody's access.
pub(super) fn answer(state: &State, mut review: Value) -> Value {
    review["status"] = match review["kind"].as_str() {
        Some("TokenReview") => token_status(state, &review["spec"]),
        _ => json!({"allowed": !state.faults.denies(&review["spec"]["resourceAttributes"])}),
    };
    review
}

fn token_status(state: &State, spec: &Value) -> Value {
    let tokens = state.tokens.lock().unwrap();
    let Some(token) = spec["token"].as_str().and_then(|text| tokens.get(text)) else {
        return json!({"user": {}, "error": "invalid bearer token"});
    };
    // Without audiences in the question, it is asked for the API server's own.
    let own = vec![json!("https://kubernetes.default.svc")];
    let wanted = spec["audiences"].as_array().filter(|list| !list.is_empty()).unwrap_or(&own);
    let common: Vec<&Value> = wanted
        .iter()
        .filter(|wanted| token.audiences.iter().any(|audience| *wanted == audience))
        .collect();
    if common.is_empty() {
        let error = format!(
            "[invalid bearer token, token audiences {:?} is invalid for the target audiences {wanted:?}]",
            token.audiences
        );
        return json!({"user": {}, "error": error});
    }
    let mut extra = json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]});
    if let Some((name, uid)) = &token.pod {
        extra["authentication.kubernetes.io/pod-name"] = json!([name]);
        extra["authentication.kubernetes.io/pod-uid"] = json!([uid]);
    }
    json!({
        "authenticated": true,
        "audiences": common,
        "user": {
            "username": format!("system:serviceaccount:{}:{}", token.namespace, token.account),
            "uid": "1",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": extra,
        },
    })
}
