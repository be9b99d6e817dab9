import json
import socket

import pytest

from rl_verifiers import VerifierError, make, schema

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name"],
    "additionalProperties": False,
}
TABLE = {
    "type": "array",
    "items": {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}},
    "minItems": 1,
}
NESTED = {
    "$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}, "type": ["object", "integer"]}},
    "$ref": "#/$defs/n",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a schema reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def judged(completion, wanted=PERSON, **options):
    return make("json_schema", **options)(completion, {"id": 1, "schema": wanted})


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        ('{"name": "A", "age": 3}', "correct"),
        ('Here: ```json\n{"name": "A"}\n``` as you asked', "correct"),
        ('<think>{"name": 5}</think>It is {"name": "A"}.', "correct"),
        ('{"name": "A", "age": true}', "wrong"),
        ('{"name": "A", "born": "2024-02-30"}', "wrong"),
        ('{"name": "A", "\\ud800": 1}', "wrong"),
        ('{"name": NaN}', "no_answer"),
        ('<think>{"name": "A"}', "no_answer"),
        ("[" * 100_000, "no_answer"),
        ("", "no_answer"),
    ],
)
def test_json(completion, status):
    assert judged(completion).status == status


def test_the_reason_names_the_first_violations_by_path():
    score = judged('{"age": -1, "name": 5}')
    assert score.reason == (
        "$.age: -1 is less than the minimum of 0; $.name: 5 is not of type 'string'"
    )
    assert score.answer == '{"age": -1, "name": 5}'


def test_the_schema_may_be_text_an_answer_or_an_option():
    text = json.dumps(PERSON)
    assert make("json_schema")('{"name": 1}', {"schema": text}).status == "wrong"
    assert make("json_schema")('{"name": 1}', {"answer": PERSON}).status == "wrong"
    assert make("json_schema", schema=text)('{"name": "A"}', {}).status == "correct"


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (' {"name": "A"}\n', "correct"),
        ('Sure: {"name": "A"}', "unparsable"),
        ('{"name": "A", "name": "B"}', "unparsable"),
        ('{"a":' * 200 + "1" + "}" * 200, "over_limit"),
    ],
)
def test_strict_takes_the_whole_completion(completion, status):
    assert judged(completion, strict=True).status == status


@pytest.mark.parametrize(
    ("form", "completion", "wanted", "status"),
    [
        ("yaml", "name: A\nage: 3\nborn: 2024-02-28", PERSON, "correct"),
        ("yaml", "So:\n```yml\nname: 5\n```", PERSON, "wrong"),
        ("yaml", "name: [", PERSON, "unparsable"),
        ("yaml", "a: &a [x, x]\nb: *a", {}, "over_limit"),
        ("yaml", "- " * 900, {}, "over_limit"),
        ("yaml", "x: 0x" + "f" * 40_000, {"type": "string"}, "over_limit"),
        ("yaml", "x: 1\n" * 20_000, {}, "over_limit"),
        ("yaml", "!!python/object/apply:os.system [x]", {}, "unparsable"),
        ("toml", 'name = "A"\nage = 3', PERSON, "correct"),
        ("toml", "a." * 101 + "b = 1", {}, "over_limit"),
        ("toml", "a = " + "[" * 20_000, {}, "over_limit"),
        ("csv", "n,s\n1,2\n3,x", TABLE, "correct"),
        ("csv", "n,s\n1_0,2", TABLE, "wrong"),
        ("csv", "n,s", TABLE, "wrong"),
        ("csv", "n,s\n1", TABLE, "unparsable"),
        ("csv", "n,n\n1,2", TABLE, "unparsable"),
    ],
)
def test_other_forms(form, completion, wanted, status):
    assert judged(completion, wanted, format=form).status == status


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "objekt"},
        {"pattern": "("},
        {"$ref": "http://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"$id": "http://example.com/a", "properties": {"name": {"$ref": "b.json"}}},
        {"$ref": "#"},
        "{",
        5,
        None,
    ],
)
def test_an_unusable_schema_is_the_rows_fault_and_is_never_fetched(wanted):
    assert judged('{"name": "A"}', wanted).status == "bad_reference"


def test_a_reference_that_is_met_late_is_not_fetched_either(monkeypatch):
    tried = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: tried.append(args))
    late = {"$id": "http://example.com/a", "properties": {"name": {"$ref": "b.json"}}}
    compiled = schema.compile_schema(schema.schema_text(late))
    with pytest.raises(schema.SchemaProblemError, match=r"reference 'b\.json' leads nowhere"):
        schema.violations({"name": "A"}, compiled)
    assert tried == []


def test_references_inside_the_schema_are_followed():
    assert judged('{"a": {"a": 1}}', NESTED).status == "correct"
    assert judged('{"a": {"a": "x"}}', NESTED).status == "wrong"


def test_work_without_end_is_stopped(monkeypatch):
    assert judged("a." * 9_000 + "b = 1", {}, format="toml").reason == "a key of over 100 parts"
    monkeypatch.setattr(schema, "CPU_SECONDS", 1.0)
    backtracking = {"properties": {"a": {"pattern": "(a+)+$"}}}
    assert judged(json.dumps({"a": "a" * 40 + "b"}), backtracking).status == "over_limit"
    assert judged("[1e400]", {"items": {"multipleOf": 0.1}}).status == "over_limit"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2024-02-28T10:00:00Z", "2024-02-30T10:00:00Z"),
        ("time", "23:59:60+01:00", "24:00:00Z"),
        ("duration", "P1DT2H", "P"),
        ("email", "a@b.example", "a@b@c"),
        ("hostname", "a-b.example", "-a.example"),
        ("uri", "https://example.com/a?b=c", "example com"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
    ],
)
def test_formats_are_checked(name, good, bad):
    wanted = {"items": {"format": name}}
    assert judged(json.dumps([good, 5]), wanted).status == "correct"
    assert judged(json.dumps([bad]), wanted).status == "wrong"


def test_bad_options_are_refused():
    with pytest.raises(VerifierError, match=r"unknown format 'jsonl' \(did you mean json\?\)"):
        make("json_schema", format="jsonl")
    with pytest.raises(VerifierError, match=r"json_schema: bad schema at \$\.type"):
        make("json_schema", schema={"type": "objekt"})


def unfolding(**more):
    links = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
    return {"$defs": {**links, "a40": {}}, **more}


def test_references_that_unfold_without_bound_are_the_rows_fault(monkeypatch):
    monkeypatch.setattr(schema, "CPU_SECONDS", 1.0)
    for wanted in (
        unfolding(**{"$ref": "#/$defs/a0"}),
        unfolding(properties={"default": {"$ref": "#/$defs/a0"}}),
    ):
        assert judged('{"default": 1}', wanted).status == "bad_reference"
        with pytest.raises(schema.SchemaProblemError, match="unfold to over 100,000 schemas"):
            schema.compile_schema(schema.schema_text(wanted))
    hidden = unfolding(**{"$id": "http://x.example/", "$ref": "#/$defs/a0"})
    assert judged("[1]", hidden).status == "over_limit"


@pytest.mark.parametrize(
    "wanted",
    [{"$id": "http://x.example/", "$ref": "http://x.example/z"}, {"$schema": 5}, {"$schema": []}],
)
def test_a_schema_that_its_library_trips_over_is_the_rows_fault(wanted):
    assert judged("[1]", wanted).status == "bad_reference"


@pytest.mark.parametrize("answer", [{"a": 1}, {}, True, [1], "zzz"])
def test_an_answer_without_a_keyword_is_no_schema(answer):
    assert make("json_schema")('"x"', {"answer": answer}).status == "bad_reference"


def test_the_schema_is_no_document_of_itself():
    wanted = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert judged(json.dumps(wanted), wanted).reason == "the schema itself and no document of it"
    assert judged("{}", {}).status == "correct"


def test_decimals_are_counted_as_they_are_written():
    tenth = {"items": {"multipleOf": 0.1}}
    assert judged("[0.3, 1.1, 4]", tenth).status == "correct"
    assert judged("[0.35]", tenth).reason == "$[0]: 0.35 is not a multiple of 0.1"


def test_prose_and_comments_are_no_documents():
    assert judged("word", {}, format="csv").status == "wrong"
    assert judged("# nothing", {}, format="toml").status == "no_answer"
    assert judged("# nothing\n", {}, format="yaml").status == "no_answer"


def test_a_flag_is_true_or_false():
    with pytest.raises(VerifierError, match="json_schema: strict is 'no'"):
        make("json_schema", strict="no")
