# Fails when docs/protocol.md is not what bn-schema-doc prints.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE result)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} failed: ${result}")
endif()
file(READ ${PAGE} page)
if(NOT page STREQUAL printed)
    message(FATAL_ERROR "docs/protocol.md is stale; build the target protocol-page")
endif()
