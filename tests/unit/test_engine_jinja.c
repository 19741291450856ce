/* The template interpreter. What is expected was printed by Jinja2 3.1.6 as transformers sets it up
 * (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loopcontrols, its own tojson). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/jinja.h"

static struct pd_err err;

/* messages, bos_token and flag */
static void set_variables(struct jinja *j)
{
    static const char *const messages[][2] = {{"system", "Be brief."},
                                              {"user", " Hi <b> \"you\" \n"},
                                              {"assistant", "<think>hm</think>\n\n4"}};
    struct jinja_value list = jinja_list(j);

    for (size_t i = 0; i < 3; i++) {
        struct jinja_value m = jinja_dict(j);

        jinja_put(j, m, "role", jinja_string(j, pd_str_of(messages[i][0]), JINJA_TEMPLATE));
        jinja_put(j, m, "content", jinja_string(j, pd_str_of(messages[i][1]), JINJA_DATA));
        jinja_append(j, list, m);
    }
    jinja_set(j, "messages", list);
    jinja_set(j, "bos_token", jinja_string(j, PD_STR("<s>"), JINJA_TEMPLATE));
    jinja_set(j, "flag", jinja_bool(true));
}

static void test_rendered(void **state)
{
    static const struct {
        const char *template, *want;
    } cases[] = {
        {"{{ messages[0].role }}|{{ messages[-1]['role'] }}|{{ messages[9] }}|{{ nothing }}",
         "system|assistant||"},
        {"{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last "
         "}}{{ loop.revindex0 }} {% endfor %}",
         "1/3TrueFalse2 2/3FalseFalse1 3/3FalseTrue0 "},
        {"{% for m in messages if m.role != 'user' %}{{ loop.index0 }}{{ m.role }}{{ "
         "loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if not loop.last "
         "}};{% else %}no{% endfor %}",
         "0systemassistant;1assistantsystem;"},
        {"{% for m in [] %}x{% else %}none{% endfor %}", "none"},
        {"{% for k, v in {'a': 1, 'b': [2, 'c']}.items() %}{{ k }}={{ v }} {% endfor %}",
         "a=1 b=[2, 'c'] "},
        {"{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break "
         "%}{% endif %}{{ i }}{% endfor %}",
         "02"},
        {"{% set ns = namespace(n=0, s='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% "
         "set ns.s = ns.s ~ m.role[0] %}{% endfor %}{{ ns.n }}{{ ns.s }}",
         "3sua"},
        {"{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 7 %}{% endfor %}{{ x }}", "111"},
        {"{% set a, b = 'p', 'q' %}{{ b ~ a }}{% set c %} t {{ a }} {% endset %}[{{ c | trim }}]",
         "qp[t p]"},
        {"{% set u | upper | trim %} abc {% endset %}[{{ u }}]", "[ABC]"},
        {"{% macro m(a, b='d', c=b) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m('x') }}{{ m('x', "
         "c='z') }}{{ m() }}",
         "x-d-d;x-d-z;-d-d;"},
        {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
         "3210"},
        {"{{ 'a' if flag else 'b' }}{{ 'x' if not flag }}{{ flag and 'y' or 'z' }}", "ay"},
        {"{{ 1 + 2 * 3 ** 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** -1 if "
         "false }} {{ 1.5 + 1 }} {{ 1e20 }} {{ 1e-5 * 1 }} {{ 100.0 }}",
         "19 3 -4 2 3.5  2.5 1e+20 1e-05 100.0"},
        {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 2 not in [1, 2] }} {{ 'k' in {'k': "
         "1} }} {{ 1 == 1.0 }} {{ '1' == 1 }}",
         "True False True False True True False"},
        {"{{ [1, 'a', none, true, 1.5, (1,), {'k': \"it's\"}] }}",
         "[1, 'a', None, True, 1.5, (1,), {'k': \"it's\"}]"},
        {"{{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'h\303\251llo'[1] }} {{ [1, 2, 3][:-1] }} {{ "
         "[1, 2, 3][::-2] }} {{ 'abc'[-2:] }}",
         "el olleh \303\251 [1, 2] [3, 1] bc"},
        {"{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}|{{ ' a  b '.split() }}|{{ "
         "'a,b,c'.split(',', 1) }}|{{ 'a b c'.rsplit(' ', 1) }}",
         "4|['a', 'b']|['a', 'b,c']|['a b', 'c']"},
        {"{{ '  x '.strip() }}|{{ 'xxayx'.strip('x') }}|{{ 'abc'.startswith('ab') }}{{ "
         "'abc'.endswith(('x', 'c')) }}{{ 'abcb'.find('b') }}{{ 'abcb'.rfind('b') }}{{ "
         "'abcb'.count('b') }}",
         "x|ay|TrueTrue132"},
        {"{{ 'a-b c'.title() }} {{ \"it's a-b\" | title }} {{ 'aBC' | capitalize }} {{ "
         "'ab'.upper() }} {{ 'AB' | lower }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab' | "
         "replace('', '-') }}",
         "A-B C It's A-B Abc AB ab bba -a-b-"},
        {"{{ messages[1].content | trim }}|{{ messages[1].content | tojson }}|{{ "
         "messages[1].content | e }}",
         "Hi <b> \"you\"|\" Hi <b> \\\"you\\\" \\n\"| Hi &lt;b&gt; &#34;you&#34; \n"},
        {"{{ {'b': 1, 'a': [true, none, 1.0], 'c': {}} | tojson }} {{ {'b': 1, 'a': [1, {}]} | "
         "tojson(indent=2) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) "
         "}}",
         "{\"b\": 1, \"a\": [true, null, 1.0], \"c\": {}} {\n  \"b\": 1,\n  \"a\": [\n    1,\n    "
         "{}\n  ]\n} {\"a\":2,\"b\":1}"},
        {"{{ '\303\251 ' | tojson }} {{ '\303\251\360\237\230\200' | tojson(ensure_ascii=true) }}",
         "\"\303\251 \" \"\\u00e9\\ud83d\\ude00\""},
        {"{{ messages | length }} {{ 'a\303\261b' | length }} {{ x | default('d') }} {{ '' | "
         "default('e', true) }} {{ none | d('f') }}",
         "3 3 d e None"},
        {"{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', "
         "'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'in', ['user', "
         "'system']) | map(attribute='content') | first }}",
         "system, user, assistant 1 <think>hm</think>\n\n4"},
        {"{{ [3, 1, 2] | sort | join }} {{ ['b', 'A'] | sort | join }} {{ [1, 2, 3] | reverse | "
         "list }} {{ 'abc' | reverse }} {{ [1, 2, 1] | unique | list }} {{ {'b': 1, 'A': 2} | "
         "dictsort }} {{ [0, 1, 2] | select('odd') | list }} {{ [0, 1] | reject | list }} {{ ['a'] "
         "| map('upper') | list }}",
         "123 Ab [3, 2, 1] cba [1, 2] [('A', 2), ('b', 1)] [1] [0] ['A']"},
        {"{{ '3' | int + 1 }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ '1.5' | float }} {{ 3.9 | int "
         "}} {{ 5 | string + '!' }} {{ -3 | abs }}",
         "4 0 7 1.5 3 5! 3"},
        {"{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n' | indent('>') }}",
         "a\n    b\n\n    c|  a\n  b|a\n"},
        {"{{ messages | first == messages[0] }} {{ (messages | last).role }} {{ 'ab' | list }} {{ "
         "messages[0] | items | list }}",
         "True assistant ['a', 'b'] [('role', 'system'), ('content', 'Be brief.')]"},
        {"{{ nothing is defined }}{{ flag is true }}{{ none is none }}{{ 'a' is string }}{{ "
         "messages is sequence }}{{ messages[0] is mapping }}{{ 1 is number }}{{ 1 is integer }}{{ "
         "messages is iterable }}{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ 1 is not none }}{{ 'a' "
         "is in ['a'] }}{{ 2 is gt 1 }}{{ nothing is sequence }}",
         "FalseTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrue"},
        {"{{ messages[0].get('x') }} {{ messages[0].get('x', 'y') }} {{ messages[0].get('role') }} "
         "{{ messages[0].keys() | list }} {{ messages[0].values() | join }}",
         "None y system ['role', 'content'] systemBe brief."},
        {"{{ 'a' 'b' }} {{ 'tab\\tnl\\\\n\\x41\\u00e9' }} {{ \"q'\\\"\" }} {{ '\\z' }}",
         "ab tab\tnl\\nA\303\251 q'\" \\z"},
        {"{%- if flag %}  A  {%- elif x %} B {% else %} C {%- endif %} D", "  A D"},
        {"a {{- ' b ' -}} c {#- comment -#} d {# x #} e", "a b cd  e"},
        {"{% raw %}{{ not }} {% x %}{% endraw %} {%- raw -%} y {%- endraw %}",
         "{{ not }} {% x %}y"},
        {"{% filter upper %}abc{{ messages[0].role }}{% endfilter %}{% with q = 5, r = 6 %}{{ q + "
         "r }}{% endwith %}{{ q }}",
         "ABCSYSTEM11"},
        {"{{ '<b>' | safe + '<i>' }} {{ '<b>' | safe ~ '<i>' }} {{ ('&' | e) + '&' }} {{ 'a' * 3 "
         "}} {{ [1] * 2 + [3] }}",
         "<b>&lt;i&gt; <b><i> &amp;&amp; aaa [1, 1, 3]"},
        {"{{ 'abc' * 0 }}{{ 'abc' * -1 }}{{ '' * 7 }}{{ 'abc' * 1 }} {{ 'abc' * 2 }} {{ 7 * 'abc' "
         "}}",
         "abc abcabc abcabcabcabcabcabcabc"},
        {"{{ not nothing }} {{ nothing | length }} {% for x in nothing %}x{% endfor %} {{ nothing "
         "== other }} {{ nothing ~ 'x' }} {{ none | list if false }}",
         "True 0  True x "},
        {"{{ messages | map(attribute='role') is iterable }} {{ 'yes' if messages | "
         "selectattr('role', 'equalto', 'x') else 'no' }} {{ none | select | list }}",
         "True yes []"},
        {"{{ ' a\\u00a0\\u2003 ' | trim }}| {{ ' x\\u3000'.strip() }}| {{ {}['a'] }} {{ {'a': "
         "{'b': 1}}.a.b }} {{ 'abc'.x }} {{ none.x }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 123456789012.5 "
         "}} {{ -0.0 }}",
         "a| x|  1   0.30000000000000004 1e+16 123456789012.5 -0.0"},
        {"{% if flag %}\n  {% if true %}\n    x\n  {% endif %}\n{% endif %}\ny\n\n", "    x\ny\n"},
        {"  {{ 1 }}\n  {# c #}\n  {%+ if true %}z{% endif +%}\n w\n", "  1\n  z\n w"},
        {"{% for m in messages %}\n  {%- if loop.first -%}\n  [{{ m.role }}]\n  {%- else %}\n  <{{ "
         "m.role }}>\n  {%- endif -%}\n{% endfor %}\n{{ '\\n' }}\n",
         "[system]  <user>  <assistant>\n"},
        {"a\r\nb\rc\n", "a\nb\nc"},
        {"{% macro x() %}\n  in\n{% endmacro %}\n{{ x() }}.\n", "  in\n."},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct jinja_text text;
        struct jinja *j;

        if (jinja_new(pd_str_of(cases[i].template), &j, &err) < 0)
            fail_msg("%s: %s", cases[i].template, err.text);
        set_variables(j);
        if (jinja_render(j, &text, &err) < 0)
            fail_msg("%s: %s", cases[i].template, err.text);
        if (!pd_str_eq((struct pd_str){text.ptr, text.len}, pd_str_of(cases[i].want)))
            fail_msg("%s: '%.*s', expected '%s'", cases[i].template, (int)text.len, text.ptr,
                     cases[i].want);
        jinja_free(j);
    }
}

static int render(const char *template)
{
    struct jinja_text text;
    struct jinja *j;
    int rc = jinja_new(pd_str_of(template), &j, &err);

    if (rc < 0)
        return rc;
    set_variables(j);
    rc = jinja_render(j, &text, &err);
    jinja_free(j);
    return rc;
}

/* Each with its code, its line and what it is about. */
static void test_refused(void **state)
{
    static const struct {
        const char *template;
        int code;
        const char *says;
    } cases[] = {
        {"a\n{{ flag | foo }}", PD_EFORMAT, "line 2: filter 'foo' is not supported"},
        {"\n\n{% import 'x' as y %}", PD_EFORMAT, "line 3: statement 'import' is not supported"},
        {"{{ flag is foo }}", PD_EFORMAT, "test 'foo' is not supported"},
        {"{{ 'a'.zfill(3) }}", PD_EFORMAT, "method 'zfill' of a string is not supported"},
        {"{{ messages.append(1) }}", PD_EFORMAT, "method 'append' of a list is not supported"},
        {"{{ '%s' % flag }}", PD_EFORMAT, "formatting by %"},
        {"{{ cycler('a') }}", PD_EFORMAT, "function 'cycler' is not supported"},
        {"{{ strftime_now('%d') }}", PD_EINVAL, "'strftime_now' is undefined"},
        {"{{ ['\xc3\xa9'] }}", PD_EFORMAT, "not ASCII"},
        {"{{ '\xc3\xa9' | upper }}", PD_EFORMAT, "not ASCII"},
        {"{{ x.y }}", PD_EINVAL, "'x' is undefined"},
        {"{{ 'a' + 1 }}", PD_EINVAL, "a string + a number"},
        {"{{ 1 // 0 }}", PD_EINVAL, "division by zero"},
        {"{{ 9223372036854775807 + 1 }}", PD_EFORMAT, "64 bits"},
        {"{{ messages.__class__ }}", PD_EINVAL, "private"},
        {"{% for m in 5 %}{% endfor %}", PD_EINVAL, "cannot be iterated"},
        {"{% set a, b = [1] %}", PD_EINVAL, "fewer values"},
        {"{% if flag %}", PD_EFORMAT, "expected endif, found the end"},
        {"{% endfor %}", PD_EFORMAT, "found name endfor"},
        {"{{ 1 ", PD_EFORMAT, "tag without an end"},
        {"{{ (1] }}", PD_EFORMAT, "unexpected ']'"},
        {"{# x", PD_EFORMAT, "comment without an end"},
        {"{% raw %}", PD_EFORMAT, "raw block without endraw"},
        {"{% break %}", PD_EFORMAT, "a loop around"},
        {"{{ f(*a) }}", PD_EFORMAT, "not supported"},
        {"{{ raise_exception('no ' ~ messages[0].role) }}", PD_EINVAL,
         "refuses the conversation: no system"},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", PD_EINVAL, "no more than 1"},
        {"{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", PD_ELIMIT, "nested"},
        {"{{ 1 ** 999999999 }}", PD_ELIMIT, "steps"},
        {"{{ 'aaaaaaaaaaaaaaaa' * 9999999 }}", PD_ELIMIT, "bytes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc = render(cases[i].template);

        if (rc != cases[i].code)
            fail_msg("%s: %d %s", cases[i].template, rc, rc < 0 ? err.text : "rendered");
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].template, err.text);
    }
}

/* Nesting is refused before the stack is full. */
static void test_nesting(void **state)
{
    static const char *const parts[][2] = {
        {"(", ")"}, {"[", "]"}, {"-", ""}, {"not ", ""}, {"1 if 1 else ", ""}};
    struct pd_buf b = PD_BUF_INIT(1 << 20);

    (void)state;
    for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
        pd_buf_clear(&b);
        pd_buf_addz(&b, "{{ ");
        for (size_t i = 0; i < 20000; i++)
            pd_buf_addz(&b, parts[k][0]);
        pd_buf_addz(&b, "1");
        for (size_t i = 0; i < 20000; i++)
            pd_buf_addz(&b, parts[k][1]);
        pd_buf_addz(&b, " }}");
        assert_true(render(b.data) < 0);
    }
    pd_buf_clear(&b);
    for (size_t i = 0; i < 20000; i++)
        pd_buf_addz(&b, "{% if 1 %}");
    assert_int_equal(render(b.data), PD_ELIMIT);
    pd_buf_clear(&b);
    pd_buf_addz(&b, "{{ 1");
    for (size_t i = 0; i < 20000; i++)
        pd_buf_addz(&b, " + 1");
    pd_buf_addz(&b, " }}");
    assert_int_equal(render(b.data), PD_ELIMIT);
    assert_int_equal(render("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
                            "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x == ns.x }}"),
                     PD_ELIMIT);
    pd_buf_done(&b);
}

/* Bytes of a message are marked wherever they go. */
static void test_origin(void **state)
{
    static const struct {
        const char *expression, *want; /* T: the template's, d: data */
    } cases[] = {
        {"'<' + d + '>'", "TdddT"},
        {"'<' ~ d ~ 1", "TdddT"},
        {"d[1:]", "dd"},
        {"d | trim | upper", "ddd"},
        {"d.split('b')[1] + 'x'", "dT"},
        {"d.replace('b', '--')", "dTTd"},
        {"'abc'.replace('b', d)", "TdddT"},
        {"[d, 'x'] | join('-')", "dddTT"},
        {"d | tojson", "TdddT"},
        {"{'k': d} | tojson", "TTTTTTTdddTT"},
        {"[d]", "TTdddTT"},
        {"d | reverse", "ddd"},
        {"d | e", "ddd"},
        {"d * 2", "dddddd"},
        {"('x' + d) * 5", "TdddTdddTdddTdddTddd"},
        {"d | indent(1, true)", "Tddd"},
        {"'x' if d == 'abc'", "T"},
        {"{'abc': 'x'}[d]", "T"},
    };
    struct pd_buf b = PD_BUF_INIT(1024);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct jinja_text text;
        struct jinja *j;

        pd_buf_clear(&b);
        pd_buf_printf(&b, "{{ %s }}", cases[i].expression);
        assert_int_equal(jinja_new(pd_buf_str(&b), &j, &err), 0);
        jinja_set(j, "d", jinja_string(j, PD_STR("abc"), JINJA_DATA));
        assert_int_equal(jinja_render(j, &text, &err), 0);
        if (text.len != strlen(cases[i].want))
            fail_msg("%s: %.*s", cases[i].expression, (int)text.len, text.ptr);
        for (size_t k = 0; k < text.len; k++)
            if ((text.origin[k] == JINJA_DATA) != (cases[i].want[k] == 'd'))
                fail_msg("%s: byte %zu of %.*s", cases[i].expression, k, (int)text.len, text.ptr);
        jinja_free(j);
    }
    pd_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rendered),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_origin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
