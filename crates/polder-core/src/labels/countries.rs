//! Countries by ISO 3166-1 alpha-2 code, and the two groups that European law speaks of.
//!
//! The list is the standard's, complete; names are absent, because nothing is decided by them.

use super::{Closed, LabelError};
use serde::{Deserialize, Serialize};

/// A country, by its ISO 3166-1 alpha-2 code in upper case; held as its place in the standard's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country(u8);

#[rustfmt::skip]
const ALL: [&str; 249] = [
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ", "BA", "BB",
    "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS", "BT", "BV", "BW", "BY",
    "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN", "CO", "CR", "CU", "CV", "CW", "CX",
    "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK",
    "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL", "GM", "GN", "GP", "GQ", "GR", "GS",
    "GT", "GU", "GW", "GY", "HK", "HM", "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR",
    "IS", "IT", "JE", "JM", "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN", "KP", "KR", "KW", "KY", "KZ", "LA",
    "LB", "LC", "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK",
    "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU", "MV", "MW", "MX", "MY", "MZ", "NA", "NC", "NE",
    "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM",
    "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW", "SA", "SB", "SC", "SD", "SE", "SG",
    "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS", "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF",
    "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO", "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY",
    "UZ", "VA", "VC", "VE", "VG", "VI", "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZM", "ZW",
];

/// The member states of the European Union.
pub const EU: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";
/// The European Economic Area: the EU, Iceland, Liechtenstein and Norway.
pub const EEA: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK";

/// Countries outside the EEA with an adequacy decision of the European Commission under Article 45 of Regulation (EU)
/// 2016/679 that covers the whole country, as in force on 1 January 2026. Decisions that cover only some recipients
/// (Canada, United States) are left out: a country alone does not say whether they apply.
pub const ADEQUATE: &str = "AD AR CH FO GB GG IL IM JE JP KR NZ UY";

impl Country {
    /// Whether the country is a member state of the European Union.
    pub fn in_eu(self) -> bool {
        EU.split(' ').any(|code| code == self.as_str())
    }

    /// Whether the country belongs to the European Economic Area.
    pub fn in_eea(self) -> bool {
        EEA.split(' ').any(|code| code == self.as_str())
    }

    /// Whether personal data may go there as to a member state: it is in the EEA, or [`ADEQUATE`].
    pub fn is_adequate(self) -> bool {
        self.in_eea() || ADEQUATE.split(' ').any(|code| code == self.as_str())
    }
}

impl Closed for Country {
    const NAME: &'static str = "countries";
    fn all() -> Vec<Self> {
        (0..=248).map(Self).collect()
    }
    fn as_str(&self) -> &'static str {
        ALL.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

impl TryFrom<String> for Country {
    type Error = LabelError;
    fn try_from(text: String) -> Result<Self, LabelError> {
        let place = ALL.binary_search(&text.as_str()).ok().and_then(|place| u8::try_from(place).ok());
        place.map(Self).ok_or_else(|| LabelError::Unknown {
            label: Self::NAME,
            value: text.chars().take(64).collect(),
            list: "the ISO 3166-1 alpha-2 codes, such as `FR`".to_owned(),
        })
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

impl std::fmt::Debug for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
