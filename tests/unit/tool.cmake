# index/tool
fathom_test(tool_units_test SOURCES tool_units_test.c USES fathom_tool fathom_base)
fathom_test(tool_outlook_test SOURCES tool_outlook_test.c USES fathom_tool fathom_base)
fathom_test(tool_main_test SOURCES tool_main_test.c USES fathom_tool fathom_env fathom_base)
