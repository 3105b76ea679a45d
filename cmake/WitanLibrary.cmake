# witan_library(NAME file...): the static library witan_NAME with the alias witan::NAME.
function(witan_library name)
  add_library(witan_${name} STATIC ${ARGN})
  add_library(witan::${name} ALIAS witan_${name})
  target_link_libraries(witan_${name} PUBLIC $<BUILD_INTERFACE:witan_flags>)
  target_include_directories(witan_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/witan>)
  set_target_properties(witan_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY WITAN_LIBRARIES witan_${name})
endfunction()
