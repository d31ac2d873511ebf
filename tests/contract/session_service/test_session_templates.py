"""Templates: fields and a first message that new sessions begin with."""

from google.protobuf.field_mask_pb2 import FieldMask
from session_world import create, pb, refusal

from mobot.session.v1 import event_pb2, session_pb2


async def make(stub, template_id="weekly", *, opening="", **fields):
    request = pb.CreateTemplateRequest(
        template_id=template_id,
        template=session_pb2.SessionTemplate(session=session_pb2.Session(**fields), opening=opening),
    )
    return (await stub.CreateTemplate(request)).template


def from_template(session_id, template="templates/weekly", **fields):
    return pb.CreateSessionRequest(
        parent="bots/main", session_id=session_id, template=template, session=session_pb2.Session(**fields)
    )


async def test_a_session_begins_with_what_its_template_says_and_the_request_wins(stub):
    await make(
        stub,
        opening="Be brief.",
        group="Reports",
        tags=["weekly"],
        icon="📊",
        model="a/b",
        overrides={"thinkingLevel": "high", "verbose": "on"},
    )
    request = from_template("a", label="Monday", icon="🗓", overrides={"verbose": "off"})
    session = (await stub.CreateSession(request)).session
    assert (session.template, session.group, list(session.tags)) == ("templates/weekly", "Reports", ["weekly"])
    assert (session.label, session.icon, session.model) == ("Monday", "🗓", "a/b")
    assert dict(session.overrides) == {"thinkingLevel": "high", "verbose": "off"}
    events = (await stub.ListEvents(pb.ListEventsRequest(parent=session.name))).events
    assert [event.WhichOneof("payload") for event in events] == ["session_created", "message"]
    assert (events[1].message.role, events[1].message.parts[0].text) == (event_pb2.ROLE_SYSTEM, "Be brief.")
    assert (session.message_count, session.last_sequence) == (1, 2)


async def test_replacing_a_session_opens_it_again(stub):
    await make(stub, opening="Be brief.", group="Reports")
    await create(stub, "a")
    request = from_template("a")
    request.conflict_policy = pb.CONFLICT_POLICY_REPLACE
    session = (await stub.CreateSession(request)).session
    assert (session.group, session.message_count) == ("Reports", 1)


async def test_templates_are_read_changed_listed_and_deleted(stub):
    made = await make(stub, group="Reports")
    assert (made.name, made.etag, made.session.group) == ("templates/weekly", "W1", "Reports")
    assert (await stub.GetTemplate(pb.GetTemplateRequest(name=made.name))).template == made
    changed = pb.UpdateTemplateRequest(
        template=session_pb2.SessionTemplate(
            name=made.name, etag=made.etag, opening="Hello", session=session_pb2.Session(icon="x")
        ),
        update_mask=FieldMask(paths=["opening", "session.icon"]),
    )
    after = (await stub.UpdateTemplate(changed)).template
    assert (after.opening, after.session.icon, after.session.group, after.etag) == ("Hello", "x", "Reports", "W2")
    assert (await refusal(stub.UpdateTemplate(changed))).reason == "ETAG_MISMATCH"
    for other in ("b", "a"):
        await make(stub, other)
    first = await stub.ListTemplates(pb.ListTemplatesRequest(page_size=2))
    rest = await stub.ListTemplates(pb.ListTemplatesRequest(page_size=2, page_token=first.next_page_token))
    assert [each.name for each in (*first.templates, *rest.templates)] == [
        "templates/a",
        "templates/b",
        "templates/weekly",
    ]
    assert not rest.next_page_token
    await stub.DeleteTemplate(pb.DeleteTemplateRequest(name=made.name))
    for call in (
        stub.GetTemplate(pb.GetTemplateRequest(name=made.name)),
        stub.DeleteTemplate(pb.DeleteTemplateRequest(name=made.name)),
        stub.UpdateTemplate(pb.UpdateTemplateRequest(template=session_pb2.SessionTemplate(name=made.name))),
        stub.CreateSession(from_template("a")),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("NOT_FOUND", "TEMPLATE_NOT_FOUND")


async def test_a_session_outlives_its_template(stub):
    made = await make(stub, group="Reports")
    session = (await stub.CreateSession(from_template("a"))).session
    await stub.DeleteTemplate(pb.DeleteTemplateRequest(name=made.name))
    assert (await stub.GetSession(pb.GetSessionRequest(name=session.name))).session.template == made.name


async def test_bad_templates_are_refused(world, stub):
    await make(stub)
    error = await refusal(stub.CreateTemplate(pb.CreateTemplateRequest(template_id="weekly")))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "TEMPLATE_ALREADY_EXISTS")
    for template_id in ("", "A", "a/b", "x" * 65, "\u0430"):
        error = await refusal(stub.CreateTemplate(pb.CreateTemplateRequest(template_id=template_id)))
        assert (error.reason, error.violations[0].field) == ("FIELD_INVALID", "template_id")
    for wrong in ("weekly", "templates/", "templates/../x"):
        assert (await refusal(stub.GetTemplate(pb.GetTemplateRequest(name=wrong)))).reason == "FIELD_INVALID"
        assert (await refusal(stub.CreateSession(from_template("z", wrong)))).reason == "FIELD_INVALID"
    for path in ("name", "etag", "nonsense", "session.uid", "session.parent"):
        request = pb.UpdateTemplateRequest(
            template=session_pb2.SessionTemplate(name="templates/weekly"), update_mask=FieldMask(paths=[path])
        )
        if path != "session.uid":
            assert (await refusal(stub.UpdateTemplate(request))).reason == "FIELD_INVALID", path
    bot = world.stub("bots/main")
    assert (await bot.GetTemplate(pb.GetTemplateRequest(name="templates/weekly"))).template.name
    for call in (
        bot.CreateTemplate(pb.CreateTemplateRequest(template_id="mine")),
        bot.DeleteTemplate(pb.DeleteTemplateRequest(name="templates/weekly")),
    ):
        assert (await refusal(call)).reason == "CALLER_NOT_ALLOWED"
