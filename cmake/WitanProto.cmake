# witan_proto(TARGET file.proto...): C++ code for messages that are not part of the schema, added to a library of ours, by its
# path from the root: #include "launch/data/tokenizers/sentencepiece.pb.h". Generated code does not meet our warning flags.
# The target witan_protos generates it all, for tools that read our sources without building them.
function(witan_proto target)
  set(generated ${PROJECT_BINARY_DIR}/generated)
  set(sources)
  foreach(file ${ARGN})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    string(REGEX REPLACE "[.]proto$" "" stem ${generated}/${name})
    add_custom_command(
      OUTPUT ${stem}.pb.cc ${stem}.pb.h
      COMMAND protobuf::protoc --proto_path=${PROJECT_SOURCE_DIR} --cpp_out=${generated}
              ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file} protobuf::protoc
      VERBATIM)
    set_source_files_properties(${stem}.pb.cc PROPERTIES COMPILE_OPTIONS "-w")
    list(APPEND sources ${stem}.pb.cc ${stem}.pb.h)
  endforeach()
  file(MAKE_DIRECTORY ${generated})
  if(NOT TARGET witan_protos)
    add_custom_target(witan_protos)
  endif()
  add_custom_target(${target}_protos DEPENDS ${sources})
  add_dependencies(witan_protos ${target}_protos)
  target_sources(${target} PRIVATE ${sources})
  target_include_directories(${target} SYSTEM PRIVATE ${generated})
  target_link_libraries(${target} PRIVATE protobuf::libprotobuf)
endfunction()
