//! Words for the sample books: several scripts, and the characters that XML cares about.

pub(super) const SUBJECTS: &[&str] = &[
    "Spark",
    "Rust",
    "Data",
    "Streams",
    "Rivers",
    "Gardens",
    "Kafka",
    "Parquet",
    "Maps & Atlases",
    "Цветы",
    "東京の夜",
    "Straßen",
    "Ἰλιάς",
    "Cafés",
    "Q&A",
    "C < D",
    "Музыка",
    "数据",
    "Æther",
    "Naïve Sets",
    "Emoji 📚",
    "O'Reilly's Cat",
    "\"Quoted\" Worlds",
    "Números",
    "Clouds",
    "Rain",
];

pub(super) const FORMS: &[&str] = &[
    "in Action",
    "for Beginners",
    "Explained",
    "of the North",
    "and Other Stories",
    "by Example",
    "under Water",
    "at Scale",
    "– a History",
    "without Tears",
    "in Practice",
    "Revisited",
    "from First Principles",
    "& Friends",
    "after Midnight",
    "2nd ed.",
    "on a Shoestring",
];

pub(super) const FIRST_NAMES: &[&str] = &[
    "John",
    "Jane",
    "Robert",
    "María",
    "José",
    "Zoë",
    "Björn",
    "Ольга",
    "李",
    "Søren",
    "Amélie",
    "Nguyễn",
    "Fatima",
    "Chidi",
    "Łukasz",
    "Anaïs",
    "Jürgen",
    "Siobhán",
    "Ayşe",
    "さくら",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "Doe",
    "Smith",
    "Johnson",
    "García",
    "Müller",
    "O'Brien",
    "Иванова",
    "Wang",
    "Kowalski",
    "Åkesson",
    "Dupont",
    "Văn An",
    "El-Sayed",
    "Okafor",
    "D'Angelo",
    "Smith & Sons",
    "田中",
];

pub(super) const COUNTRIES: &[&str] = &[
    "USA",
    "Canada",
    "UK",
    "España",
    "Deutschland",
    "France",
    "Россия",
    "日本",
    "中国",
    "Polska",
    "Sverige",
    "Việt Nam",
    "Nigeria",
    "Trinidad & Tobago",
    "Côte d'Ivoire",
    "Brasil",
    "Türkiye",
];

pub(super) const LANGUAGES: &[&str] = &["en", "es", "de", "fr", "ru", "ja", "zh", "pl", "sv", "vi"];

pub(super) const CURRENCIES: &[&str] = &["EUR", "USD", "GBP", "JPY"];

/// Years that are no number, and numbers that are no year between 2000 and 2023.
pub(super) const NO_NUMBERS: &[&str] = &["n/a", "20l4", "MMXV", "two thousand", "2O11", "c. 2003"];
pub(super) const OUT_OF_RANGE: &[&str] = &["1850", "2999", "-5", "20231", "1999", "0"];

pub(super) const REMARKS: &[&str] = &[
    "shelf 12",
    "checked & counted",
    "donated",
    "todo: cover",
    "<b>not an element</b>",
    "été",
];
