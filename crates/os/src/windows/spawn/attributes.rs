//! The list of attributes of a new process: what it inherits, and the job that it is born in.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{
    DeleteProcThreadAttributeList, InitializeProcThreadAttributeList, LPPROC_THREAD_ATTRIBUTE_LIST,
    PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROC_THREAD_ATTRIBUTE_JOB_LIST, UpdateProcThreadAttribute,
};

use super::super::sys::check;

/// See the module. As `u64` for its alignment.
pub(super) struct Attributes<'a> {
    list: Vec<u64>,
    lists: PhantomData<&'a [HANDLE]>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(handles: &'a [HANDLE], jobs: &'a [HANDLE]) -> io::Result<Attributes<'a>> {
        let count = 1 + u32::from(!jobs.is_empty());
        let mut size = 0;
        // SAFETY: without a list the call only says how large one is.
        unsafe { InitializeProcThreadAttributeList(ptr::null_mut(), count, 0, &raw mut size) };
        let mut list = vec![0_u64; size.div_ceil(mem::size_of::<u64>())];
        // SAFETY: the list has the size that was asked for.
        check(unsafe {
            InitializeProcThreadAttributeList(list.as_mut_ptr().cast(), count, 0, &raw mut size)
        })?;
        let attributes = Attributes { list, lists: PhantomData };
        attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles)?;
        if !jobs.is_empty() {
            attributes.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, jobs)?;
        }
        Ok(attributes)
    }

    fn set(&self, attribute: u32, handles: &'a [HANDLE]) -> io::Result<()> {
        let (value, size) = (handles.as_ptr().cast(), mem::size_of_val(handles));
        let none = ptr::null_mut();
        // SAFETY: the list was initialised for this many attributes; it keeps the pointer, which lives for longer.
        check(unsafe {
            UpdateProcThreadAttribute(self.raw(), 0, attribute as usize, value, size, none, ptr::null())
        })
    }

    pub(super) fn raw(&self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.list.as_ptr().cast_mut().cast()
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        // SAFETY: the list was initialised.
        unsafe { DeleteProcThreadAttributeList(self.raw()) };
    }
}
