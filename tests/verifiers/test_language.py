import pytest

from rl_verifiers import VerifierError, make
from rl_verifiers.languages import LANGUAGES, count_by_language, language_code, words_of

TEXTS = {
    "en": "First we compute the area of the triangle. So the answer is twelve apples.",
    "de": "Zuerst berechnen wir die Fläche des Dreiecks. Also ist die Antwort zwölf Äpfel.",
    "fr": "D'abord nous calculons l'aire du triangle. Donc la réponse est douze pommes.",
    "es": "Primero calculamos el área del triángulo. Entonces la respuesta es doce manzanas.",
    "vi": "Đầu tiên chúng ta tính diện tích tam giác. Vậy đáp án là mười hai quả táo.",
    "ru": "Сначала мы вычислим площадь треугольника. Значит, ответ двенадцать яблок.",
    "uk": "Спочатку обчислимо площу трикутника. Отже, відповідь дванадцять яблук.",
    "ar": "أولاً نحسب مساحة المثلث. إذن الجواب هو اثنتا عشرة تفاحة.",
    "fa": "ابتدا مساحت مثلث را محاسبه می‌کنیم. پس پاسخ دوازده سیب است.",
    "hi": "पहले हम त्रिभुज का क्षेत्रफल निकालते हैं।",
    "zh": "首先我们计算三角形的面积。所以答案是十二个苹果。",
    "ja": "まず三角形の面積を計算します。答えは十二個のりんごです。",
    "ko": "먼저 삼각형의 넓이를 계산합니다. 그래서 답은 사과 열두 개입니다.",
    "th": "ก่อนอื่นเราคำนวณพื้นที่ของสามเหลี่ยม",
    "el": "Πρώτα υπολογίζουμε το εμβαδόν του τριγώνου.",
}


@pytest.mark.parametrize("wanted", TEXTS)
def test_each_language_is_itself_and_no_other(wanted):
    verifier = make("language", language=wanted)
    assert {code: verifier(text, {}).passed for code, text in TEXTS.items()} == {
        code: code == wanted for code in TEXTS
    }


def test_the_value_is_the_share_of_words():
    score = make("language", language="en")("We compute 所以答案是十二 the area of it.", {})
    assert (score.value, score.status) == (6 / 10, "wrong")
    assert score.reason == "6 of 10 words en; 4 zh"
    assert make("language", language="en", threshold=0.6)("We go 苹果 on", {}).passed


def test_code_mathematics_and_names_do_not_count():
    text = (
        "Also ist $x = \\text{the largest one}$ die Antwort, und \\(\\alpha + the\\) auch.\n"
        "```python\nfor every_item in the_list: print(this)\n```\n"
        "Siehe https://example.com/the/english/page und `the code here`, ABC, get_the_value und\n"
        "\\[\\begin{pmatrix} the \\end{pmatrix}\\] <answer>zwölf</answer>."
    )
    score = make("language", language="German")(text, {})
    assert score.reason == "10 of 10 words de"


@pytest.mark.parametrize(
    ("part", "language", "passes"),
    [
        ("thinking", "en", True),
        ("answer", "de", True),
        ("all", "en", False),
        ("answer", "en", False),
    ],
)
def test_a_part_may_be_judged_alone(part, language, passes):
    text = f"<think>{TEXTS['en']}</think>{TEXTS['de']}"
    assert make("language", language=language, part=part)(text, {}).passed is passes


def test_the_row_or_the_prompt_may_say_which():
    row = {"language": "fr-CA"}
    assert make("language")(TEXTS["fr"], row).passed
    assert make("language")(TEXTS["fr"], {"language": "Klingon"}).status == "bad_reference"
    same = make("language", language="prompt")
    messages = [
        {"role": "system", "content": TEXTS["en"]},
        {"role": "user", "content": TEXTS["es"]},
    ]
    assert same(TEXTS["es"], {"prompt": messages}).passed
    assert not same(TEXTS["en"], {"prompt": messages}).passed
    parts = [{"role": "user", "content": [{"type": "text", "text": TEXTS["es"]}]}]
    assert same(TEXTS["es"], {"prompt": parts}).passed
    assert same(TEXTS["en"], {"prompt": "1 + 1"}).status == "bad_reference"


def test_too_few_letters_to_tell_belong_to_the_language_wanted():
    assert make("language", language="de")("Zwölf.", {}).passed
    assert not make("language", language="ru")("Twelve.", {}).passed
    assert make("language", language="de")("x = 12", {}).status == "no_answer"


def test_chinese_inside_japanese_is_found():
    counts = count_by_language(TEXTS["ja"] + "\n" + TEXTS["zh"])
    assert set(counts) == {"ja", "zh"}


def test_words_are_cut_where_scripts_change():
    found = [(word.script, word.words, word.letters) for word in words_of("GPT模型是好 हिन्दी x 3")]
    assert found == [("Latin", 1, "GPT"), ("Han", 2, "模型是好"), ("Devanagari", 1, "हिन्दी")]


def test_names_of_languages():
    assert [language_code(n) for n in ("en-GB", "Chinese", "zh_TW", "nb", "tlh")] == [
        "en", "zh", "zh", "no", None,
    ]  # fmt: skip
    assert LANGUAGES["ja"] == ("Kana", "Han")


def test_bad_options_are_refused():
    with pytest.raises(VerifierError, match=r"unknown language 'eng' \(did you mean en\?\)"):
        make("language", language="eng")
    with pytest.raises(
        VerifierError, match=r"unknown language 'englsh' \(did you mean english\?\)"
    ):
        make("language", language="englsh")
    with pytest.raises(VerifierError, match=r"language: part is 'think'.*did you mean 'thinking'"):
        make("language", language="en", part="think")
    for bad in ({"threshold": "a"}, {"threshold": float("nan")}, {"max_hidden": True}):
        with pytest.raises(VerifierError, match=rf"language: {next(iter(bad))} is"):
            make("language", language="en", **bad)


ENGLISH = " ".join([TEXTS["en"][:-1]] * 12)


@pytest.mark.parametrize(
    "hidden",
    [
        f"`{ENGLISH}`",
        f"${ENGLISH}$",
        f"\n```\n{ENGLISH}",
        f"https://example.com/{ENGLISH.replace(' ', '-')}",
        ENGLISH.replace(" ", "_"),
        "\\" + ENGLISH.replace(" ", " \\"),
        "THE SUN IS BIG か " * 5,
        f"`{' 1 '.join(ENGLISH.split())}`",
        f"<{ENGLISH[:58]}>",
        f"`{ENGLISH[:60]}`",
    ],
)
def test_no_mark_hides_prose_in_another_language(hidden):
    score = make("language", language="ja", max_hidden=1)(f"はい、そうです。{hidden}", {})
    assert score.value < 0.4
    assert "en" in score.reason


def test_what_is_left_out_may_not_be_most_of_the_text():
    text = "はい、そうです。\n" + " ".join(f"`{word}`" for word in ENGLISH.split())
    score = make("language", language="ja")(text, {})
    assert (score.value, score.passed, score.parts["language"]) == (0.0, False, 1.0)
    assert score.parts["hidden"] > 0.9
    assert make("language", language="ja", max_hidden=1)(text, {}).passed


def test_mathematics_is_not_hidden_text():
    text = "So \\[\\frac{\\sqrt{x^2 + y^2}}{\\alpha + \\beta} \\leq \\int_0^1 f(t) dt\\] is clear."
    assert make("language", language="en")(text, {}).parts == {
        "language": 1.0,
        "hidden": pytest.approx(2 / 11),
    }
