//! The claims and policies that are part of the binary, by name.
//!
//! The files are in `claims/`, `templates/` and `demo/policies/`; a test holds this list against the folder. Reading files is
//! absent: whoever has others reads them.

use polder_core::policy::LABELS_POLICY;

use super::LABELS;

/// Every claim in `claims/`: its name and its text.
pub const SHIPPED_CLAIMS: &[(&str, &str)] = &[
    ("bank-can-serve-customers", include_str!("../../../../claims/bank-can-serve-customers.toml")),
    ("bank-control-is-attested", include_str!("../../../../claims/bank-control-is-attested.toml")),
    ("bank-customer-data-certified", include_str!("../../../../claims/bank-customer-data-certified.toml")),
    ("bank-customer-data-in-the-eu", include_str!("../../../../claims/bank-customer-data-in-the-eu.toml")),
    ("bank-never-errors", include_str!("../../../../claims/bank-never-errors.toml")),
    ("bank-never-wider-than-baseline", include_str!("../../../../claims/bank-never-wider-than-baseline.toml")),
    ("bank-no-dead-rule", include_str!("../../../../claims/bank-no-dead-rule.toml")),
    ("bank-no-redundant-rule", include_str!("../../../../claims/bank-no-redundant-rule.toml")),
    (
        "bank-no-us-control-of-customer-data",
        include_str!("../../../../claims/bank-no-us-control-of-customer-data.toml"),
    ),
    ("bank-no-us-site-for-customer-data", include_str!("../../../../claims/bank-no-us-site-for-customer-data.toml")),
    ("bank-operator-in-the-eu", include_str!("../../../../claims/bank-operator-in-the-eu.toml")),
    ("bank-personal-data-in-the-eea", include_str!("../../../../claims/bank-personal-data-in-the-eea.toml")),
    ("baseline-no-dead-rule", include_str!("../../../../claims/baseline-no-dead-rule.toml")),
    ("baseline-site-attested", include_str!("../../../../claims/baseline-site-attested.toml")),
    ("defence-can-run-restricted-data", include_str!("../../../../claims/defence-can-run-restricted-data.toml")),
    ("defence-no-redundant-rule", include_str!("../../../../claims/defence-no-redundant-rule.toml")),
    ("defence-restricted-data-in-the-eu", include_str!("../../../../claims/defence-restricted-data-in-the-eu.toml")),
    (
        "defence-restricted-data-with-cleared-people",
        include_str!("../../../../claims/defence-restricted-data-with-cleared-people.toml"),
    ),
    ("image-lab-model-at-named-sites", include_str!("../../../../claims/image-lab-model-at-named-sites.toml")),
    (
        "image-lab-never-wider-than-start-up",
        include_str!("../../../../claims/image-lab-never-wider-than-start-up.toml"),
    ),
    (
        "no-fallback-outside-the-named-countries",
        include_str!("../../../../claims/no-fallback-outside-the-named-countries.toml"),
    ),
    ("start-up-in-the-eea", include_str!("../../../../claims/start-up-in-the-eea.toml")),
];

/// Every policy that claims may name: its name and its text.
pub const SHIPPED_POLICIES: &[(&str, &str)] = &[
    (LABELS, LABELS_POLICY),
    ("bank", include_str!("../../../../demo/policies/bank.cedar")),
    ("baseline", include_str!("../../../../demo/policies/baseline.cedar")),
    ("defence", include_str!("../../../../demo/policies/defence.cedar")),
    ("image-lab", include_str!("../../../../demo/policies/image-lab.cedar")),
    ("start-up", include_str!("../../../../demo/policies/start-up.cedar")),
];

/// The text of a policy that is part of the binary.
pub fn shipped_policy(name: &str) -> Option<&'static str> {
    SHIPPED_POLICIES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
